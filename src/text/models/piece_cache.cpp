#include "text/models/piece_cache.h"

#include <algorithm>
#include <functional>

namespace fettle::text {

PieceCache::PieceCache() : slots_(std::make_unique<Slot[]>(kSlots)), locks_(std::make_unique<std::mutex[]>(kLocks)) {}

bool PieceCache::lookup(std::string_view piece, std::vector<TokenId>& out) const {
  if (piece.empty() || piece.size() > kMaxKey) return false;
  const size_t at = std::hash<std::string_view>{}(piece) % kSlots;
  const std::unique_lock lock(locks_[at % kLocks], std::try_to_lock);
  if (!lock) return false;
  const Slot& slot = slots_[at];
  if (std::string_view(slot.key.data(), slot.key_size) != piece) return false;
  out.insert(out.end(), slot.ids.begin(), slot.ids.begin() + slot.ids_size);
  return true;
}

void PieceCache::store(std::string_view piece, std::span<const TokenId> ids) const {
  if (piece.empty() || piece.size() > kMaxKey || ids.size() > kMaxIds) return;
  const size_t at = std::hash<std::string_view>{}(piece) % kSlots;
  const std::unique_lock lock(locks_[at % kLocks], std::try_to_lock);
  if (!lock) return;
  Slot& slot = slots_[at];
  slot.key_size = static_cast<uint8_t>(piece.size());
  slot.ids_size = static_cast<uint8_t>(ids.size());
  std::copy(piece.begin(), piece.end(), slot.key.begin());
  std::copy(ids.begin(), ids.end(), slot.ids.begin());
}

}  // namespace fettle::text
