#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "text/models/model.h"
#include "text/models/piece_cache.h"
#include "text/vocab.h"

namespace fettle::text {

inline constexpr size_t kMaxMerges = size_t{8} << 20;

// (left id, right id) -> rank and id of the merged token. Lower rank merges first.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    TokenId result;
  };
  static constexpr uint32_t kNever = UINT32_MAX;
  explicit MergeTable(size_t merges);
  void put(TokenId left, TokenId right, Merge merge);  // a later entry for the same pair replaces the earlier one
  const Merge* find(TokenId left, TokenId right) const;
  // Turns merges into these ids off: their rank becomes kNever.
  void bar(const std::unordered_set<TokenId>& results);
  size_t size() const { return size_; }

  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (const Slot& s : slots_)
      if (s.key != kFree) visit(static_cast<TokenId>(s.key >> 32), static_cast<TokenId>(s.key & 0xFFFFFFFF), s.merge);
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    Merge merge{};
  };
  size_t probe(uint64_t key) const;
  std::vector<Slot> slots_;
  size_t size_ = 0;
};

struct BpeOptions {
  std::string unk_token;                  // empty: none; unknown characters are then dropped
  std::string continuing_subword_prefix;  // put before every character but the first of a piece
  std::string end_of_word_suffix;         // put after the last character of a piece
  bool fuse_unk = false;                  // neighbouring unknown characters give one unk_token
  bool byte_fallback = false;             // unknown character -> <0xXX> tokens, if all its bytes have one
  bool ignore_merges = false;             // a piece that is a token as a whole is not merged from characters
  bool raw_bytes = false;                 // pieces arrive as bytes; tokens are spelt in the byte-level alphabet
};

// Byte-pair encoding with ranked merges, as in Hugging Face tokenizer.json and GGUF "gpt2" vocabularies. Merging picks
// the lowest rank, leftmost on ties: a scan for short pieces, a heap over a linked list (O(n log n)) for long ones.
class BpeModel : public Model {
 public:
  // `barred`: ids that text may not turn into (special tokens); merges into them and whole-piece matches are skipped.
  BpeModel(std::shared_ptr<const Vocab> vocab, MergeTable merges, BpeOptions options,
           const std::unordered_set<TokenId>& barred, std::string_view source);
  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override;
  // From characters, whatever ignore_merges says, and without the cache.
  void merge(std::string_view piece, std::vector<TokenId>& out) const;

  const MergeTable& merges() const { return merges_; }
  const BpeOptions& options() const { return options_; }

 private:
  void tokenize_word(std::string_view piece, std::vector<TokenId>& out) const;
  void split_bytes(std::string_view piece, std::vector<TokenId>& symbols) const;
  void split_characters(std::string_view piece, std::vector<TokenId>& symbols) const;
  bool append_bytes(std::string_view character, std::vector<TokenId>& symbols) const;
  void merge_short(std::vector<TokenId>& symbols, size_t begin) const;
  void merge_long(std::vector<TokenId>& symbols, size_t begin) const;

  std::shared_ptr<const Vocab> vocab_;
  MergeTable merges_;
  BpeOptions options_;
  std::array<TokenId, 256> byte_token_;  // raw_bytes: symbol of the byte; else its <0xXX> token; -1 = none
  TokenId unk_ = -1;
  std::unordered_set<TokenId> barred_;
  bool by_words_ = false;  // long pieces may be cut at word marks
  PieceCache cache_;
};

// The <0xXX> tokens of a vocabulary; -1 where missing.
std::array<TokenId, 256> find_byte_tokens(const Vocab& vocab);

// Value of a token spelt exactly <0xXX> with capital hexadecimal digits.
std::optional<unsigned char> parse_byte_token(std::string_view piece);

}  // namespace fettle::text
