#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "text/models/model.h"
#include "text/vocab.h"

namespace fettle::text {

struct UnigramOptions {
  TokenId unk = -1;            // -1: an unknown character is an error
  bool byte_fallback = false;  // unknown text -> <0xXX> tokens if all its bytes have one
};

// Unigram language model (Kudo 2018): the segmentation with the highest sum of scores, by Viterbi over bytes in f64. An
// unknown character costs the lowest score minus 10; of equal paths the first found wins; neighbouring unknown
// characters are one token. Cost O(text bytes x longest piece).
class UnigramModel : public Model {
 public:
  // scores: by id. `barred` pieces are never matched.
  UnigramModel(std::shared_ptr<const Vocab> vocab, std::vector<float> scores, UnigramOptions options,
               const std::unordered_set<TokenId>& barred);
  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  struct Node {
    double score = 0;
    size_t start = SIZE_MAX;  // where the last token of the best path to here begins
    TokenId id = -1;
  };
  void append_unknown(std::string_view text, std::vector<TokenId>& out) const;

  std::shared_ptr<const Vocab> vocab_;
  std::vector<float> scores_;
  UnigramOptions options_;
  double unk_score_ = 0;
  std::vector<TokenId> sorted_;           // matchable ids in byte order of their pieces
  std::array<size_t, 257> first_byte_{};  // sorted_ range of pieces that start with byte b: [b], [b + 1]
  std::array<TokenId, 256> byte_tokens_;
};

}  // namespace fettle::text
