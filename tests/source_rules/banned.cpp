#include "banned.h"

#include <fmt/format.h>

#include <algorithm>

namespace source_rules {
namespace fs = std::filesystem;
namespace {

struct Rule {
  std::string_view name;
  std::string_view instead;
};

constexpr std::string_view kNumbers = "read numbers with std::from_chars over the whole text";
constexpr std::string_view kEnds = "throw fettle::Error (FETTLE_CHECK for our own mistakes)";
constexpr std::string_view kText = "use std::string or fmt";
constexpr std::string_view kRandom = "use base/random.h";

// Counted when a '(' follows: a member called `rand` or a word in a macro name is not a call.
constexpr Rule kCalls[] = {
    {"abort", kEnds},
    {"assert", kEnds},
    {"quick_exit", kEnds},
    {"atof", kNumbers},
    {"atoi", kNumbers},
    {"atol", kNumbers},
    {"atoll", kNumbers},
    {"sscanf", kNumbers},
    {"stod", kNumbers},
    {"stof", kNumbers},
    {"stoi", kNumbers},
    {"stol", kNumbers},
    {"stold", kNumbers},
    {"stoll", kNumbers},
    {"stoul", kNumbers},
    {"stoull", kNumbers},
    {"strtod", kNumbers},
    {"strtof", kNumbers},
    {"strtol", kNumbers},
    {"strtold", kNumbers},
    {"strtoll", kNumbers},
    {"strtoul", kNumbers},
    {"strtoull", kNumbers},
    {"sprintf", kText},
    {"vsprintf", kText},
    {"strcpy", kText},
    {"strcat", kText},
    {"gets", kText},
    {"rand", kRandom},
    {"srand", kRandom},
    {"system", "start no shell"},
};

// Counted wherever they stand behind std::.
constexpr Rule kTypes[] = {
    {"regex", "PCRE2 with limits, or a hand-written scanner: std::regex recurses without bound"},
    {"mt19937", kRandom},
    {"mt19937_64", kRandom},
};

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

bool followed_by_call(std::string_view text, size_t end) {
  while (end < text.size() && (text[end] == ' ' || text[end] == '\n')) ++end;
  return end < text.size() && text[end] == '(';
}

bool is_member(std::string_view text, size_t begin) {
  return (begin >= 1 && text[begin - 1] == '.') || (begin >= 2 && text.substr(begin - 2, 2) == "->");
}

const Rule* rule_for(std::string_view text, size_t begin, size_t end) {
  const std::string_view word = text.substr(begin, end - begin);
  const auto named = [&](const Rule& rule) { return rule.name == word; };
  if (begin >= 5 && text.substr(begin - 5, 5) == "std::") {
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), named);
    if (type != std::end(kTypes)) return type;
  }
  if (is_member(text, begin) || !followed_by_call(text, end)) return nullptr;
  const auto* call = std::find_if(std::begin(kCalls), std::end(kCalls), named);
  return call != std::end(kCalls) ? call : nullptr;
}

struct Use {
  std::string_view name;
  Violation violation;
};

std::vector<Use> uses(std::string_view file, std::string_view source) {
  const std::string text = blank_comments_and_literals(source);
  std::vector<Use> found;
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    if (!is_word(text[i])) {
      line += text[i++] == '\n' ? 1 : 0;
      continue;
    }
    size_t end = i;
    while (end < text.size() && is_word(text[end])) ++end;
    if (const Rule* rule = rule_for(text, i, end))
      found.push_back({rule->name, {std::string(file), line, fmt::format("{}: {}", rule->name, rule->instead)}});
    i = end;
  }
  return found;
}

bool is_product_code(const fs::path& file) {
  const std::string name = file.filename().string();
  return !name.ends_with("_test.cpp") && !name.ends_with("_bench.cpp");
}

}  // namespace

std::span<const Allowed> allowed_uses() {
  static constexpr Allowed kAllowed[] = {
      {"src/base/cpu.cpp", "strtod", "/proc and cgroup text of the kernel"},
      {"src/base/file.cpp", "strtol", "the process number in a name we wrote ourselves"},
  };
  return kAllowed;
}

std::vector<Violation> find_banned(std::string_view file, std::string_view source) {
  std::vector<Violation> found;
  for (Use& use : uses(file, source)) found.push_back(std::move(use.violation));
  return found;
}

std::vector<Violation> check_banned(const fs::path& root, std::span<const Allowed> allowed) {
  std::vector<Violation> found;
  std::vector<bool> used(allowed.size(), false);
  for (const char* part : {"src", "apps"}) {
    for (const fs::path& file : cpp_files(root / part)) {
      if (!is_product_code(file)) continue;
      const std::string name = (fs::path(part) / file).string();
      for (Use& use : uses(name, read_text(root / name))) {
        const auto entry = std::find_if(allowed.begin(), allowed.end(),
                                        [&](const Allowed& a) { return a.file == name && a.name == use.name; });
        if (entry == allowed.end())
          found.push_back(std::move(use.violation));
        else
          used[static_cast<size_t>(entry - allowed.begin())] = true;
      }
    }
  }
  for (size_t i = 0; i < allowed.size(); ++i)
    if (!used[i])
      found.push_back({std::string(allowed[i].file), 0, fmt::format("allowed use of {} is gone", allowed[i].name)});
  return found;
}

}  // namespace source_rules
