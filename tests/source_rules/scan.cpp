#include "scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace source_rules {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }
bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

// Position just past the literal, comment or raw string that starts at `i`; `i` when none starts there.
size_t skip_region(std::string_view s, size_t i) {
  const auto past = [&](size_t at, size_t n) { return at == std::string_view::npos ? s.size() : at + n; };
  if (s.substr(i, 2) == "//") return past(s.find('\n', i), 0);
  if (s.substr(i, 2) == "/*") return past(s.find("*/", i + 2), 2);
  if (s.substr(i, 2) == "R\"" && (i == 0 || !is_word(s[i - 1]))) {
    const size_t open = s.find('(', i);
    if (open == std::string_view::npos) return s.size();
    const std::string close = ")" + std::string(s.substr(i + 2, open - i - 2)) + "\"";
    return past(s.find(close, open), close.size());
  }
  // A quote between digits separates thousands: 1'000'000.
  const bool separator = s[i] == '\'' && i > 0 && is_word(s[i - 1]);
  if ((s[i] != '"' && s[i] != '\'') || separator) return i;
  for (size_t j = i + 1; j < s.size(); ++j) {
    if (s[j] == '\\') {
      ++j;
    } else if (s[j] == s[i] || s[j] == '\n') {
      return j + 1;
    }
  }
  return s.size();
}

}  // namespace

std::string describe(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& v : violations) text += fmt::format("{}:{}: {}\n", v.file, v.line, v.message);
  return text;
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string blank_comments_and_literals(std::string_view source) {
  std::string out(source);
  for (size_t i = 0; i < source.size();) {
    const size_t end = skip_region(source, i);
    if (end == i) {
      ++i;
      continue;
    }
    std::replace_if(
        out.begin() + static_cast<std::ptrdiff_t>(i), out.begin() + static_cast<std::ptrdiff_t>(end),
        [](char c) { return c != '\n'; }, ' ');
    i = end;
  }
  return out;
}

std::vector<Include> includes_of(std::string_view source) {
  // The directive is looked for in the blanked text, where a quoted path is gone; the path is read from the original.
  const std::string blanked = blank_comments_and_literals(source);
  std::vector<Include> found;
  int line = 0;
  for (size_t begin = 0; begin < blanked.size();) {
    ++line;
    const size_t end = std::min(blanked.find('\n', begin), blanked.size());
    size_t i = begin;
    const auto skip_spaces = [&] {
      while (i < end && is_space(blanked[i])) ++i;
    };
    skip_spaces();
    const bool directive = i < end && blanked[i] == '#';
    if (directive) {
      ++i;
      skip_spaces();
    }
    if (directive && std::string_view(blanked).substr(i, 7) == "include") {
      const std::string_view rest = source.substr(i + 7, end - i - 7);
      const size_t open = rest.find_first_of("\"<");
      if (open != std::string_view::npos) {
        const bool quoted = rest[open] == '"';
        const size_t close = rest.find(quoted ? '"' : '>', open + 1);
        if (close != std::string_view::npos)
          found.push_back({std::string(rest.substr(open + 1, close - open - 1)), line, quoted});
      }
    }
    begin = end + 1;
  }
  return found;
}

std::vector<std::filesystem::path> cpp_files(const std::filesystem::path& root) {
  std::vector<std::filesystem::path> files;
  if (!std::filesystem::exists(root)) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const std::string extension = entry.path().extension().string();
    if (entry.is_regular_file() && (extension == ".h" || extension == ".cpp"))
      files.push_back(std::filesystem::relative(entry.path(), root));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace source_rules
