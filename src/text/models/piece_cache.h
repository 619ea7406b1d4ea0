#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "text/token_id.h"

namespace fettle::text {

// Remembers the ids of short pieces: a direct-mapped table, so memory is fixed and a new piece replaces the old one of
// its slot. Thread-safe; a caller that would have to wait for a lock treats the access as a miss.
class PieceCache {
 public:
  PieceCache();
  bool lookup(std::string_view piece, std::vector<TokenId>& out) const;  // appends the ids on a hit
  void store(std::string_view piece, std::span<const TokenId> ids) const;

 private:
  static constexpr size_t kSlots = 1 << 14, kLocks = 64, kMaxKey = 30, kMaxIds = 8;
  struct Slot {
    uint8_t key_size = 0, ids_size = 0;  // key_size 0: free (pieces are never empty)
    std::array<char, kMaxKey> key;
    std::array<TokenId, kMaxIds> ids;
  };
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<std::mutex[]> locks_;
};

}  // namespace fettle::text
