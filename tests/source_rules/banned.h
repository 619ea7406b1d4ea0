#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "scan.h"

// Names that product code must not use: number readers that accept half a text or depend on the locale, unbounded
// regular expressions and string functions, process ends that skip fettle::Error.
namespace source_rules {

struct Allowed {
  std::string_view file;  // relative to the repository
  std::string_view name;
  std::string_view reason;
};
// The uses that are meant. One that no file makes any more is itself a violation.
std::span<const Allowed> allowed_uses();

// Violations of one source text, whatever the allow list says. `file` is for the message.
std::vector<Violation> find_banned(std::string_view file, std::string_view source);

// All product sources below `root` (src/ and apps/, without *_test.cpp and *_bench.cpp), less the allowed uses.
std::vector<Violation> check_banned(const std::filesystem::path& root, std::span<const Allowed> allowed);

}  // namespace source_rules
