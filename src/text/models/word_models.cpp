#include "text/models/word_models.h"

#include "base/error.h"
#include "base/utf8.h"

namespace fettle::text {
namespace {

void append_unknown(std::string_view piece, TokenId unk, std::vector<TokenId>& out) {
  if (unk < 0)
    fail(ErrorCode::kInput, "word \"{}\" is not in the vocabulary, and the tokenizer has no unknown token",
         printable(piece, 40));
  out.push_back(unk);
}

bool more_characters_than(std::string_view text, size_t limit) {
  if (text.size() <= limit) return false;
  size_t n = 0;
  for (char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n > limit;
}

}  // namespace

WordPieceModel::WordPieceModel(std::shared_ptr<const Vocab> vocab, WordPieceOptions options,
                               const std::unordered_set<TokenId>& barred)
    : vocab_(std::move(vocab)), options_(std::move(options)), barred_(barred) {}

void WordPieceModel::tokenize(std::string_view piece, std::vector<TokenId>& out) const {
  if (more_characters_than(piece, options_.max_characters)) return append_unknown(piece, options_.unk, out);
  const size_t before = out.size();
  std::string candidate;
  for (size_t start = 0; start < piece.size();) {
    const std::string& prefix = start == 0 ? options_.word_prefix : options_.continuing_prefix;
    candidate = prefix;
    candidate += piece.substr(start);
    TokenId found = -1;
    while (candidate.size() > prefix.size()) {
      found = vocab_->find(candidate);
      if (found >= 0 && !barred_.contains(found)) break;
      found = -1;
      do candidate.pop_back();  // one character
      while (candidate.size() > prefix.size() &&
             (static_cast<unsigned char>(piece[start + candidate.size() - prefix.size()]) & 0xC0) == 0x80);
    }
    if (found < 0) {
      out.resize(before);
      return append_unknown(piece, options_.unk, out);
    }
    out.push_back(found);
    start += candidate.size() - prefix.size();
  }
}

WordLevelModel::WordLevelModel(std::shared_ptr<const Vocab> vocab, TokenId unk,
                               const std::unordered_set<TokenId>& barred)
    : vocab_(std::move(vocab)), unk_(unk), barred_(barred) {}

void WordLevelModel::tokenize(std::string_view piece, std::vector<TokenId>& out) const {
  const TokenId id = vocab_->find(piece);
  if (id >= 0 && !barred_.contains(id))
    out.push_back(id);
  else
    append_unknown(piece, unk_, out);
}

}  // namespace fettle::text
