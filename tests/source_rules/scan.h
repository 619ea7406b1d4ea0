#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

// Reading C++ source text without a compiler: enough for rules about includes and about names that must not appear.
namespace source_rules {

struct Violation {
  std::string file;  // relative to the scanned tree
  int line = 0;
  std::string message;
};
std::string describe(const std::vector<Violation>& violations);

struct Include {
  std::string path;
  int line = 0;
  bool quoted = false;  // "x" as opposed to <x>
};

// Whole text of a file; throws std::runtime_error when it cannot be read.
std::string read_text(const std::filesystem::path& file);

// Comments, string and character literals (raw strings as well) replaced by spaces; line breaks kept.
std::string blank_comments_and_literals(std::string_view source);

// The #include lines; those inside comments are not counted.
std::vector<Include> includes_of(std::string_view source);

// .h and .cpp files below a folder, relative to it, sorted. An absent folder has none.
std::vector<std::filesystem::path> cpp_files(const std::filesystem::path& root);

}  // namespace source_rules
