#include "text/charsmap.h"

#include "base/error.h"
#include "base/utf8.h"

namespace fettle::text {
namespace {

uint32_t read_u32(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return value;
}

// Unit layout of Darts-clone (github.com/s-yata/darts-clone): bit 31 leaf flag, bits 0-7 label, bit 8 "has a leaf
// child", bits 10-30 offset, bit 9 scales the offset by 256.
constexpr uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
constexpr bool has_leaf(uint32_t unit) { return (unit >> 8) & 1; }
constexpr uint32_t label_of(uint32_t unit) { return unit & ((1u << 31) | 0xFF); }
constexpr uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }

}  // namespace

Charsmap::Charsmap(std::string_view blob, std::string_view source) : blob_(blob) {
  if (blob_.size() < 4) fail(ErrorCode::kInput, "{}: {} bytes are too few for a charsmap", source, blob_.size());
  const uint32_t trie_bytes = read_u32(blob_, 0);
  if (trie_bytes > blob_.size() - 4 || trie_bytes % 4 != 0 || trie_bytes == 0)
    fail(ErrorCode::kInput, "{}: charsmap trie of {} bytes does not fit {} bytes", source, trie_bytes, blob_.size());
  units_.resize(trie_bytes / 4);
  for (size_t i = 0; i < units_.size(); ++i) units_[i] = read_u32(blob_, 4 + 4 * i);
  strings_ = std::string_view(blob_).substr(4 + trie_bytes);
  if (!utf8::is_valid(strings_)) fail(ErrorCode::kInput, "{}: charsmap replacements are not UTF-8", source);
}

template <typename Visit>
void Charsmap::prefixes(std::string_view text, const Visit& visit) const {
  size_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    node ^= c;
    if (node >= units_.size() || label_of(units_[node]) != c) return;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) return;
    if (!visit(i + 1, value_of(units_[node]))) return;
  }
}

Charsmap::Match Charsmap::match(size_t length, uint32_t offset) const {
  // An offset outside, or into the middle of a character, is the mark of a damaged table: such an entry deletes.
  if (offset >= strings_.size() || (static_cast<unsigned char>(strings_[offset]) & 0xC0) == 0x80) return {length, {}};
  const std::string_view rest = strings_.substr(offset);
  return {length, rest.substr(0, rest.find('\0'))};
}

std::optional<Charsmap::Match> Charsmap::shortest(std::string_view text) const {
  std::optional<Match> found;
  prefixes(text, [&](size_t length, uint32_t offset) {
    found = match(length, offset);
    return false;
  });
  return found;
}

std::optional<Charsmap::Match> Charsmap::longest(std::string_view text) const {
  std::optional<Match> found;
  prefixes(text, [&](size_t length, uint32_t offset) {
    found = match(length, offset);
    return true;
  });
  return found;
}

}  // namespace fettle::text
