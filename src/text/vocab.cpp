#include "text/vocab.h"

#include <algorithm>
#include <functional>

#include "base/error.h"

namespace fettle::text {

namespace {
constexpr size_t kMaxArena = size_t{1} << 31;  // slots hold 32-bit offsets
}

void Vocab::put(TokenId id, std::string_view piece, std::string_view source) {
  if (id < 0 || static_cast<size_t>(id) >= kMaxVocabulary)
    fail(ErrorCode::kInput, "{}: token id {} is outside [0, {})", source, id, kMaxVocabulary);
  if (piece.size() > kMaxPieceBytes)
    fail(ErrorCode::kInput, "{}: token {} has {} bytes, the limit is {}", source, id, piece.size(), kMaxPieceBytes);
  if (arena_.size() + piece.size() > kMaxArena)
    fail(ErrorCode::kInput, "{}: the pieces of the vocabulary exceed {} bytes", source, kMaxArena);
  if (static_cast<size_t>(id) >= slots_.size()) slots_.resize(static_cast<size_t>(id) + 1);
  slots_[id] = {static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(piece.size()), true};
  arena_ += piece;
  longest_ = std::max(longest_, piece.size());
  ++count_;
}

void Vocab::add(TokenId id, std::string_view piece, std::string_view source) {
  const TokenId known = find(piece);
  if (known == id) return;
  if (known >= 0)
    fail(ErrorCode::kInput, "{}: token \"{}\" has both id {} and id {}", source, printable(piece, 60), known, id);
  add_shadowed(id, piece, source);
}

void Vocab::add_shadowed(TokenId id, std::string_view piece, std::string_view source) {
  if (has(id)) {
    if (this->piece(id) == piece) return;
    fail(ErrorCode::kInput, "{}: token id {} stands for both \"{}\" and \"{}\"", source, id,
         printable(this->piece(id), 60), printable(piece, 60));
  }
  put(id, piece, source);
  if (2 * (indexed_ + 1) > index_.size()) grow();
  const size_t at = probe(piece);
  if (index_[at] >= 0) return;
  index_[at] = id;
  ++indexed_;
}

void Vocab::check_density(std::string_view source) const {
  if (slots_.size() - count_ > slots_.size() / 10)
    fail(ErrorCode::kInput, "{}: {} of {} token ids have no piece; at most 10 % may be missing", source,
         slots_.size() - count_, slots_.size());
}

TokenId Vocab::find(std::string_view piece) const { return index_.empty() ? -1 : index_[probe(piece)]; }

std::string_view Vocab::piece(TokenId id) const {
  if (!has(id)) return {};
  return std::string_view(arena_).substr(slots_[id].begin, slots_[id].length);
}

size_t Vocab::probe(std::string_view piece) const {
  const size_t mask = index_.size() - 1;
  size_t at = std::hash<std::string_view>{}(piece)&mask;
  while (index_[at] >= 0 && this->piece(index_[at]) != piece) at = (at + 1) & mask;
  return at;
}

void Vocab::grow() {
  std::vector<TokenId> old = std::move(index_);
  index_.assign(std::max<size_t>(1024, old.size() * 2), -1);
  for (TokenId id : old)
    if (id >= 0) index_[probe(piece(id))] = id;
}

}  // namespace fettle::text
