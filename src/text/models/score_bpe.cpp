#include "text/models/score_bpe.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "text/models/bpe.h"
#include "text/models/marked_words.h"

namespace fettle::text {
namespace {

constexpr uint32_t kEnd = UINT32_MAX;

struct Symbol {
  uint32_t begin, end;   // bytes of the piece; begin == end: swallowed by the left neighbour
  uint32_t left, right;  // neighbours, kEnd at the borders
};

struct Candidate {
  float score;
  uint32_t position, size;                    // left symbol; bytes of both together when they became a candidate
  bool operator<(const Candidate& o) const {  // for a max-heap: higher score first, then further left
    return score != o.score ? score < o.score : position > o.position;
  }
};

}  // namespace

ScoreBpeModel::ScoreBpeModel(std::shared_ptr<const Vocab> vocab, std::vector<float> scores, ScoreBpeOptions options,
                             std::unordered_set<TokenId> barred, std::unordered_set<TokenId> unused)
    : vocab_(std::move(vocab)),
      scores_(std::move(scores)),
      options_(options),
      barred_(std::move(barred)),
      unused_(std::move(unused)),
      byte_tokens_(find_byte_tokens(*vocab_)),
      by_words_(words_are_independent(*vocab_) && find(kWordMark) >= 0) {
  FETTLE_CHECK(scores_.size() >= vocab_->size());
}

TokenId ScoreBpeModel::find(std::string_view piece) const {
  if (piece.size() > vocab_->longest_piece()) return -1;
  const TokenId id = vocab_->find(piece);
  return id >= 0 && barred_.contains(id) ? -1 : id;
}

// The merging of one piece.
class ScoreBpeModel::Merger {
 public:
  Merger(const ScoreBpeModel& model, std::string_view text) : model_(model), text_(text) {
    symbols_.reserve(text.size());
    for (size_t pos = 0; pos < text.size();) {
      const size_t length = utf8::decode(text, pos).length;
      const auto i = static_cast<uint32_t>(symbols_.size());
      symbols_.push_back(
          {static_cast<uint32_t>(pos), static_cast<uint32_t>(pos + length), i == 0 ? kEnd : i - 1, i + 1});
      pos += length;
    }
    if (!symbols_.empty()) symbols_.back().right = kEnd;
  }

  void run() {
    for (uint32_t i = 0; i < symbols_.size(); ++i) offer(i);
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      Symbol& s = symbols_[top.position];
      // Symbols only grow, so equal size means that both are what they were.
      if (s.begin == s.end || s.right == kEnd || symbols_[s.right].end - s.begin != top.size) continue;
      merge(top.position);
    }
  }

  // Calls visit(text of a symbol, its id or -1) from left to right.
  template <typename Visit>
  void for_each_result(const Visit& visit) const {
    std::vector<std::string_view> stack;
    for (const Symbol& s : symbols_) {
      if (s.begin == s.end) continue;
      stack.push_back(text_.substr(s.begin, s.end - s.begin));
      while (!stack.empty()) {
        const std::string_view piece = stack.back();
        stack.pop_back();
        const TokenId id = model_.find(piece);
        const auto split = id >= 0 && model_.unused_.contains(id) ? splits_.find(id) : splits_.end();
        if (split == splits_.end()) {
          visit(piece, id);
          continue;
        }
        stack.push_back(piece.substr(split->second));
        stack.push_back(piece.substr(0, split->second));
      }
    }
  }

 private:
  std::string_view joined(uint32_t i) const {
    const Symbol& s = symbols_[i];
    return text_.substr(s.begin, symbols_[s.right].end - s.begin);
  }
  void offer(uint32_t i) {
    if (symbols_[i].right == kEnd) return;
    const std::string_view piece = joined(i);
    const TokenId id = model_.find(piece);
    if (id >= 0) queue_.push({model_.scores_[id], i, static_cast<uint32_t>(piece.size())});
  }
  void merge(uint32_t i) {
    Symbol& s = symbols_[i];
    Symbol& gone = symbols_[s.right];
    if (!model_.unused_.empty()) {
      const TokenId id = model_.find(joined(i));
      if (model_.unused_.contains(id)) splits_[id] = s.end - s.begin;
    }
    s.end = gone.end;
    s.right = gone.right;
    gone.begin = gone.end;
    if (s.right != kEnd) symbols_[s.right].left = i;
    offer(i);
    if (s.left != kEnd) offer(s.left);
  }

  const ScoreBpeModel& model_;
  std::string_view text_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> queue_;
  std::unordered_map<TokenId, size_t> splits_;  // unused piece -> bytes of its left half
};

void ScoreBpeModel::tokenize(std::string_view piece, std::vector<TokenId>& out) const {
  if (by_words_)
    for_each_marked_word(piece, [&](std::string_view word) { tokenize_word(word, out); });
  else
    tokenize_word(piece, out);
}

void ScoreBpeModel::tokenize_word(std::string_view piece, std::vector<TokenId>& out) const {
  if (cache_.lookup(piece, out)) return;
  const size_t begin = out.size();
  Merger merger(*this, piece);
  merger.run();
  bool after_unknown = false;
  merger.for_each_result([&](std::string_view text, TokenId id) {
    if (id >= 0)
      out.push_back(id);
    else
      append_unknown(text, after_unknown, out);
    after_unknown = id < 0 && !out.empty() && out.back() == options_.unk;
  });
  cache_.store(piece, std::span(out).subspan(begin));
}

void ScoreBpeModel::append_unknown(std::string_view text, bool after_unknown, std::vector<TokenId>& out) const {
  const auto token = [this](char c) { return byte_tokens_[static_cast<unsigned char>(c)]; };
  if (options_.byte_fallback && std::all_of(text.begin(), text.end(), [&](char c) { return token(c) >= 0; })) {
    for (char c : text) out.push_back(token(c));
  } else if (options_.unk >= 0 && !after_unknown) {
    out.push_back(options_.unk);
  }
}

}  // namespace fettle::text
