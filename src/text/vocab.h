#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/token_id.h"

namespace fettle::text {

inline constexpr size_t kMaxVocabulary = size_t{1} << 22;
inline constexpr size_t kMaxPieceBytes = size_t{64} << 10;

// Pieces by id and ids by piece. Filled once through add(), read-only afterwards; ids may have holes.
class Vocab {
 public:
  // Adds a piece. Adding the same (id, piece) again is harmless; throws kInput (naming `source`) for an id outside
  // 0 .. 2^22-1, a piece above 64 KiB, an id that has another piece and a piece that has another id.
  void add(TokenId id, std::string_view piece, std::string_view source);
  // Adds a piece that another id may have already (GGUF vocabularies repeat padding pieces); find() keeps the first.
  void add_shadowed(TokenId id, std::string_view piece, std::string_view source);
  // Throws kInput when more than 10 % of the ids below size() have no piece.
  void check_density(std::string_view source) const;

  TokenId find(std::string_view piece) const;  // -1 when absent
  bool has(TokenId id) const { return id >= 0 && static_cast<size_t>(id) < slots_.size() && slots_[id].present; }
  std::string_view piece(TokenId id) const;      // empty for a hole or an id outside
  size_t size() const { return slots_.size(); }  // largest id + 1
  size_t count() const { return count_; }        // ids that have a piece
  size_t longest_piece() const { return longest_; }

 private:
  struct Slot {
    uint32_t begin = 0, length = 0;
    bool present = false;
  };
  void put(TokenId id, std::string_view piece, std::string_view source);
  size_t probe(std::string_view piece) const;
  void grow();

  std::string arena_;
  std::vector<Slot> slots_;
  std::vector<TokenId> index_;  // open addressing, -1 = free; at most half full
  size_t count_ = 0, indexed_ = 0, longest_ = 0;
};

}  // namespace fettle::text
