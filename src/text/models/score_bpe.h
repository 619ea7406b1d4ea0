#pragma once

#include <array>
#include <memory>
#include <unordered_set>
#include <vector>

#include "text/models/model.h"
#include "text/models/piece_cache.h"
#include "text/vocab.h"

namespace fettle::text {

struct ScoreBpeOptions {
  TokenId unk = -1;           // -1: unknown characters are dropped
  bool byte_fallback = true;  // unknown character -> <0xXX> tokens if all its bytes have one
};

// SentencePiece BPE, also GGUF "llama": among all neighbours whose concatenation is a piece, the pair with the highest
// score merges first, leftmost on ties; what is no piece at the end becomes byte tokens or unk (neighbours fused).
// Pieces marked unused may be stepping stones and are taken apart again at the end. O(n log n) for n characters.
class ScoreBpeModel : public Model {
 public:
  // scores: by id. `barred` pieces (control, unknown, byte tokens) never come from text; `unused` ones never stay.
  ScoreBpeModel(std::shared_ptr<const Vocab> vocab, std::vector<float> scores, ScoreBpeOptions options,
                std::unordered_set<TokenId> barred, std::unordered_set<TokenId> unused);
  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  class Merger;
  void tokenize_word(std::string_view piece, std::vector<TokenId>& out) const;
  TokenId find(std::string_view piece) const;
  void append_unknown(std::string_view text, bool after_unknown, std::vector<TokenId>& out) const;

  std::shared_ptr<const Vocab> vocab_;
  std::vector<float> scores_;
  ScoreBpeOptions options_;
  std::unordered_set<TokenId> barred_, unused_;
  std::array<TokenId, 256> byte_tokens_;
  bool by_words_;  // pieces may be cut at word marks
  PieceCache cache_;
};

}  // namespace fettle::text
