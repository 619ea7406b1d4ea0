#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/token_id.h"

namespace fettle::text {

inline constexpr size_t kMaxAddedTokenBytes = 1024;

// A token that is recognised in the text before anything else (field names of tokenizer.json).
struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  // no match inside a word
  bool lstrip = false;       // swallows white space on its left
  bool rstrip = false;       // and on its right
  bool normalized = false;   // searched in the normalised text, else in the raw text
  bool special = false;  // control token: dropped on decoding with skip_special, text may not produce it unless asked
};

struct TextRange {
  size_t begin, end;  // bytes
};

// Where in a text special tokens may be recognised: nowhere, everywhere, or everywhere but in what a user wrote.
struct SpecialScope {
  bool parse = true;
  std::span<const TextRange> untrusted = {};  // ascending, disjoint

  bool allows(size_t begin, size_t end) const {
    if (!parse) return false;
    const auto next = std::lower_bound(untrusted.begin(), untrusted.end(), begin,
                                       [](const TextRange& r, size_t at) { return r.end <= at; });
    return next == untrusted.end() || next->begin >= end;
  }
};

// Finds added tokens in a text, leftmost and longest first. Immutable after construction.
class AddedTokenMatcher {
 public:
  struct Fragment {
    size_t begin, end;  // bytes of the text
    TokenId id;         // -1: ordinary text
  };

  // `content` of each token is the text to look for (already normalised where that applies); empty ones are ignored.
  void add(const AddedToken& token, std::string_view content);
  bool empty() const { return patterns_.empty(); }

  // Cuts text into fragments without gaps (spaces swallowed by lstrip/rstrip belong to the token). Special tokens
  // outside their scope stay ordinary text. Cost O(text bytes x longest content) at worst, linear in practice.
  std::vector<Fragment> split(std::string_view text, const SpecialScope& scope) const;

 private:
  struct Pattern {
    TokenId id;
    bool single_word, lstrip, rstrip, special;
  };
  struct Found {
    size_t end = 0;
    const Pattern* pattern = nullptr;
  };
  Found longest_at(std::string_view text, size_t pos) const;

  std::vector<Pattern> patterns_;
  std::unordered_map<uint64_t, uint32_t> children_;  // node << 8 | byte -> node; node 0 is the root
  std::vector<int32_t> pattern_of_{-1};              // by node; -1 = no pattern ends here
  bool starts_[256] = {};
};

}  // namespace fettle::text
