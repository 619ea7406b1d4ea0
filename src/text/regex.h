#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::text {

struct Range {
  size_t begin = 0, end = 0;
  bool operator==(const Range&) const = default;
};

// A regular expression of tokenizer.json (Oniguruma dialect with Unicode classes), run by PCRE2 with JIT inside fixed
// limits: pattern 8 KiB, 1,000,000 match steps, depth 10,000, heap 64 MiB, JIT stack 1 MiB. Thread-safe.
class Regex {
 public:
  // Throws kInput naming `source` for a pattern that is malformed, too long or uses constructs whose meaning differs
  // between the two engines and that translate_oniguruma() does not handle.
  Regex(std::string_view pattern, std::string_view source);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // All non-overlapping matches, left to right. An empty match right after the previous match is skipped. text must be
  // well-formed UTF-8. Throws kResource when a limit is hit.
  std::vector<Range> find_all(std::string_view text) const;

 private:
  void* code_ = nullptr;  // pcre2_code
  std::string source_;
};

// Rewrites the constructs that the two engines read differently: \s excludes U+180E, \h is a hexadecimal digit, \w
// includes marks, nested classes are flattened, {n,m}+ repeats instead of being possessive.
std::string translate_oniguruma(std::string_view pattern, std::string_view source);

}  // namespace fettle::text
