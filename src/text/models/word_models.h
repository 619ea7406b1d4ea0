#pragma once

#include <memory>
#include <string>
#include <unordered_set>

#include "text/models/model.h"
#include "text/vocab.h"

namespace fettle::text {

struct WordPieceOptions {
  std::string word_prefix;        // put before the first part of a word (GGUF stores words as U+2581 + text)
  std::string continuing_prefix;  // put before the other parts ("##" in Hugging Face files)
  size_t max_characters = 100;    // longer words are unknown as a whole
  TokenId unk = -1;
};

// WordPiece (BERT): the longest known part from the left; a word with an unknown rest is [UNK] as a whole.
class WordPieceModel : public Model {
 public:
  WordPieceModel(std::shared_ptr<const Vocab> vocab, WordPieceOptions options,
                 const std::unordered_set<TokenId>& barred);
  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  std::shared_ptr<const Vocab> vocab_;
  WordPieceOptions options_;
  std::unordered_set<TokenId> barred_;
};

// Whole pieces only; `unk` for the others, -1: they are an error.
class WordLevelModel : public Model {
 public:
  WordLevelModel(std::shared_ptr<const Vocab> vocab, TokenId unk, const std::unordered_set<TokenId>& barred);
  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  std::shared_ptr<const Vocab> vocab_;
  TokenId unk_;
  std::unordered_set<TokenId> barred_;
};

}  // namespace fettle::text
