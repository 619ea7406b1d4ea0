#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::text {

// SentencePiece precompiled_charsmap: u32 size of a Darts double-array trie in bytes, the trie (u32 units, little
// endian), then NUL-terminated replacement strings; trie values are offsets into them. Every index read from the table
// is checked, so a crafted table can only give wrong replacements.
class Charsmap {
 public:
  // Throws kInput naming `source` for inconsistent sizes and replacements that are not UTF-8.
  Charsmap(std::string_view blob, std::string_view source);

  struct Match {
    size_t length;  // bytes of the key
    std::string_view replacement;
  };
  std::optional<Match> shortest(std::string_view text) const;  // shortest key that is a prefix of text
  std::optional<Match> longest(std::string_view text) const;
  const std::string& blob() const { return blob_; }

 private:
  template <typename Visit>
  void prefixes(std::string_view text, const Visit& visit) const;  // visit(length, offset) -> continue?
  Match match(size_t length, uint32_t offset) const;

  std::string blob_;
  std::vector<uint32_t> units_;
  std::string_view strings_;  // part of blob_
};

}  // namespace fettle::text
