#include "text/models/unigram.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "text/models/bpe.h"

namespace fettle::text {

namespace {
constexpr double kUnknownPenalty = 10.0;  // of the SentencePiece implementation
}

UnigramModel::UnigramModel(std::shared_ptr<const Vocab> vocab, std::vector<float> scores, UnigramOptions options,
                           const std::unordered_set<TokenId>& barred)
    : vocab_(std::move(vocab)), scores_(std::move(scores)), options_(options), byte_tokens_(find_byte_tokens(*vocab_)) {
  FETTLE_CHECK(scores_.size() >= vocab_->size());
  double lowest = 0;
  bool any = false;
  for (TokenId id = 0; static_cast<size_t>(id) < vocab_->size(); ++id) {
    if (!vocab_->has(id)) continue;
    lowest = any ? std::min<double>(lowest, scores_[id]) : scores_[id];
    any = true;
    const std::string_view piece = vocab_->piece(id);
    if (piece.empty() || barred.contains(id) || vocab_->find(piece) != id || id == options_.unk) continue;
    if (options_.byte_fallback && parse_byte_token(piece)) continue;
    sorted_.push_back(id);
  }
  unk_score_ = lowest - kUnknownPenalty;
  std::sort(sorted_.begin(), sorted_.end(),
            [this](TokenId a, TokenId b) { return vocab_->piece(a) < vocab_->piece(b); });
  for (TokenId id : sorted_) ++first_byte_[static_cast<unsigned char>(vocab_->piece(id)[0]) + 1u];
  for (size_t b = 0; b < 256; ++b) first_byte_[b + 1] += first_byte_[b];
}

void UnigramModel::tokenize(std::string_view piece, std::vector<TokenId>& out) const {
  std::vector<Node> best(piece.size() + 1);
  const auto offer = [&](size_t start, size_t end, TokenId id, double score) {
    Node& node = best[end];
    if (node.start == SIZE_MAX || score > node.score) node = {score, start, id};
  };
  for (size_t start = 0, length = 0; start < piece.size(); start += length) {
    length = utf8::decode(piece, start).length;
    const double here = best[start].score;
    bool single = false;  // a piece covers exactly this character
    const auto first = static_cast<unsigned char>(piece[start]);
    auto lo = sorted_.begin() + static_cast<std::ptrdiff_t>(first_byte_[first]);
    auto hi = sorted_.begin() + static_cast<std::ptrdiff_t>(first_byte_[first + 1u]);
    // lo..hi: pieces that agree with the text in the first n bytes; a piece of exactly n bytes sorts first.
    for (size_t n = 1; lo < hi; ++n) {
      if (vocab_->piece(*lo).size() == n) {
        offer(start, start + n, *lo, here + static_cast<double>(scores_[*lo]));
        single |= n == length;
        ++lo;
      }
      if (start + n >= piece.size()) break;
      const auto c = static_cast<unsigned char>(piece[start + n]);
      const auto byte_at_n = [&](TokenId id) { return static_cast<unsigned char>(vocab_->piece(id)[n]); };
      lo = std::partition_point(lo, hi, [&](TokenId id) { return byte_at_n(id) < c; });
      hi = std::partition_point(lo, hi, [&](TokenId id) { return byte_at_n(id) <= c; });
    }
    if (!single) offer(start, start + length, -1, here + unk_score_);
  }

  struct Token {
    size_t start, end;
    TokenId id;
  };
  std::vector<Token> path;  // backwards
  for (size_t end = piece.size(); end > 0; end = path.back().start) {
    size_t start = best[end].start;
    while (best[end].id < 0 && start > 0 && best[start].id < 0) start = best[start].start;  // fuse unknown characters
    path.push_back({start, end, best[end].id});
  }
  for (auto t = path.rbegin(); t != path.rend(); ++t) {
    if (t->id >= 0)
      out.push_back(t->id);
    else
      append_unknown(piece.substr(t->start, t->end - t->start), out);
  }
}

void UnigramModel::append_unknown(std::string_view text, std::vector<TokenId>& out) const {
  const auto token = [this](char c) { return byte_tokens_[static_cast<unsigned char>(c)]; };
  if (options_.byte_fallback && std::all_of(text.begin(), text.end(), [&](char c) { return token(c) >= 0; })) {
    for (char c : text) out.push_back(token(c));
    return;
  }
  if (options_.unk < 0)
    fail(ErrorCode::kInput, "text \"{}\" is not in the vocabulary, and the tokenizer has no unknown token",
         printable(text, 40));
  out.push_back(options_.unk);
}

}  // namespace fettle::text
