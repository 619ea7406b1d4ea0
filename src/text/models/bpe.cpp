#include "text/models/bpe.h"

#include <algorithm>
#include <queue>

#include "base/error.h"
#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/models/marked_words.h"

namespace fettle::text {
namespace {

// Above this many symbols the heap is faster than repeated scans.
constexpr size_t kShortPiece = 40;

struct Candidate {
  uint32_t rank;
  uint32_t position;
  TokenId result;
  bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : position > o.position; }
};

}  // namespace

MergeTable::MergeTable(size_t merges) {
  size_t capacity = 16;
  while (capacity < 2 * merges) capacity *= 2;
  slots_.resize(capacity);
}

size_t MergeTable::probe(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  uint64_t h = key * 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: spreads consecutive ids
  h ^= h >> 32;
  size_t at = h & mask;
  while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & mask;
  return at;
}

void MergeTable::put(TokenId left, TokenId right, Merge merge) {
  const uint64_t key = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  Slot& slot = slots_[probe(key)];
  if (slot.key == kFree) {
    FETTLE_CHECK(2 * (size_ + 1) <= slots_.size());
    ++size_;
  }
  slot = {key, merge};
}

const MergeTable::Merge* MergeTable::find(TokenId left, TokenId right) const {
  const Slot& slot = slots_[probe(static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right))];
  return slot.key == kFree ? nullptr : &slot.merge;
}

void MergeTable::bar(const std::unordered_set<TokenId>& results) {
  if (results.empty()) return;
  for (Slot& s : slots_)
    if (s.key != kFree && results.contains(s.merge.result)) s.merge.rank = kNever;
}

std::optional<unsigned char> parse_byte_token(std::string_view piece) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
  const int high = digit(piece[3]), low = digit(piece[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(16 * high + low);
}

std::array<TokenId, 256> find_byte_tokens(const Vocab& vocab) {
  std::array<TokenId, 256> tokens;
  for (unsigned b = 0; b < 256; ++b) tokens[b] = vocab.find(fmt::format("<0x{:02X}>", b));
  return tokens;
}

BpeModel::BpeModel(std::shared_ptr<const Vocab> vocab, MergeTable merges, BpeOptions options,
                   const std::unordered_set<TokenId>& barred, std::string_view source)
    : vocab_(std::move(vocab)), merges_(std::move(merges)), options_(std::move(options)), barred_(barred) {
  merges_.bar(barred_);
  if (options_.raw_bytes) {
    for (unsigned b = 0; b < 256; ++b) {
      std::string symbol;
      utf8::append(symbol, byte_alphabet::symbol(static_cast<unsigned char>(b)));
      byte_token_[b] = vocab_->find(symbol);
    }
  } else {
    byte_token_ = find_byte_tokens(*vocab_);
  }
  // With ignore_merges the piece as a whole matters; prefixes and suffixes depend on its borders.
  by_words_ = !options_.raw_bytes && !options_.ignore_merges && options_.continuing_subword_prefix.empty() &&
              options_.end_of_word_suffix.empty() && words_are_independent(*vocab_);
  if (!options_.unk_token.empty()) {
    unk_ = vocab_->find(options_.unk_token);
    if (unk_ < 0)
      fail(ErrorCode::kInput, "{}: model.unk_token: \"{}\" is not in the vocabulary", source,
           printable(options_.unk_token));
  }
}

void BpeModel::tokenize(std::string_view piece, std::vector<TokenId>& out) const {
  if (by_words_)
    for_each_marked_word(piece, [&](std::string_view word) { tokenize_word(word, out); });
  else
    tokenize_word(piece, out);
}

void BpeModel::tokenize_word(std::string_view piece, std::vector<TokenId>& out) const {
  if (cache_.lookup(piece, out)) return;
  const size_t begin = out.size();
  if (options_.ignore_merges) {
    const TokenId whole = vocab_->find(options_.raw_bytes ? byte_alphabet::encode(piece) : std::string(piece));
    if (whole >= 0 && !barred_.contains(whole)) out.push_back(whole);
  }
  if (out.size() == begin) merge(piece, out);
  cache_.store(piece, std::span(out).subspan(begin));
}

void BpeModel::merge(std::string_view piece, std::vector<TokenId>& out) const {
  const size_t begin = out.size();
  if (options_.raw_bytes)
    split_bytes(piece, out);
  else
    split_characters(piece, out);
  if (out.size() - begin <= kShortPiece)
    merge_short(out, begin);
  else
    merge_long(out, begin);
}

void BpeModel::split_bytes(std::string_view piece, std::vector<TokenId>& symbols) const {
  bool after_unk = false;
  for (char c : piece) {
    const TokenId id = byte_token_[static_cast<unsigned char>(c)];
    if (id >= 0)
      symbols.push_back(id);
    else if (unk_ >= 0 && !(after_unk && options_.fuse_unk))
      symbols.push_back(unk_);
    after_unk = id < 0;
  }
}

bool BpeModel::append_bytes(std::string_view character, std::vector<TokenId>& symbols) const {
  for (char c : character)
    if (byte_token_[static_cast<unsigned char>(c)] < 0) return false;
  for (char c : character) symbols.push_back(byte_token_[static_cast<unsigned char>(c)]);
  return true;
}

void BpeModel::split_characters(std::string_view piece, std::vector<TokenId>& symbols) const {
  bool after_unk = false;
  std::string spelled;
  for (size_t pos = 0, length = 0; pos < piece.size(); pos += length) {
    length = utf8::decode(piece, pos).length;
    std::string_view symbol = piece.substr(pos, length);
    const bool continues = pos > 0 && !options_.continuing_subword_prefix.empty();
    const bool ends = pos + length == piece.size() && !options_.end_of_word_suffix.empty();
    if (continues || ends) {
      spelled = continues ? options_.continuing_subword_prefix : "";
      spelled += symbol;
      if (ends) spelled += options_.end_of_word_suffix;
      symbol = spelled;
    }
    const TokenId id = vocab_->find(symbol);
    if (id >= 0) {
      symbols.push_back(id);
    } else if (options_.byte_fallback && append_bytes(symbol, symbols)) {
      after_unk = false;
      continue;
    } else if (unk_ >= 0 && !(after_unk && options_.fuse_unk)) {
      symbols.push_back(unk_);
    }
    after_unk = id < 0;
  }
}

void BpeModel::merge_short(std::vector<TokenId>& symbols, size_t begin) const {
  std::array<MergeTable::Merge, kShortPiece> next;  // next[i]: merge of symbols i and i+1
  size_t n = symbols.size() - begin;
  TokenId* s = symbols.data() + begin;
  const auto look_up = [&](size_t i) {
    const MergeTable::Merge* m = merges_.find(s[i], s[i + 1]);
    next[i] = m ? *m : MergeTable::Merge{MergeTable::kNever, -1};
  };
  for (size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i)
      if (next[i].rank < next[best].rank) best = i;
    if (next[best].rank == MergeTable::kNever) break;
    s[best] = next[best].result;
    --n;
    std::copy(s + best + 2, s + n + 1, s + best + 1);
    if (best + 2 <= n) std::copy(next.begin() + best + 2, next.begin() + n, next.begin() + best + 1);
    if (best + 1 < n) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(begin + n);
}

void BpeModel::merge_long(std::vector<TokenId>& symbols, size_t begin) const {
  constexpr uint32_t kEnd = UINT32_MAX;
  const auto n = static_cast<uint32_t>(symbols.size() - begin);
  TokenId* s = symbols.data() + begin;  // -1: swallowed by its left neighbour
  std::vector<uint32_t> left(n), right(n);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto push = [&](uint32_t i) {
    if (right[i] == kEnd) return;
    const MergeTable::Merge* m = merges_.find(s[i], s[right[i]]);
    if (m && m->rank != MergeTable::kNever) queue.push({m->rank, i, m->result});
  };
  for (uint32_t i = 0; i < n; ++i) {
    left[i] = i == 0 ? kEnd : i - 1;
    right[i] = i + 1 == n ? kEnd : i + 1;
  }
  for (uint32_t i = 0; i < n; ++i) push(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const uint32_t i = top.position;
    if (s[i] < 0 || right[i] == kEnd) continue;
    const MergeTable::Merge* now = merges_.find(s[i], s[right[i]]);
    if (!now || now->rank != top.rank) continue;  // one of the two symbols has changed since
    s[i] = top.result;
    s[right[i]] = -1;
    right[i] = right[right[i]];
    if (right[i] != kEnd) left[right[i]] = i;
    push(i);
    if (left[i] != kEnd) push(left[i]);
  }
  symbols.erase(std::remove(symbols.begin() + static_cast<std::ptrdiff_t>(begin), symbols.end(), -1), symbols.end());
}

}  // namespace fettle::text
