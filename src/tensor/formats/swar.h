#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

// Eight codes at a time in a 64-bit word: portable, branch-free bit moves for repacking blocks. A "lane" is one byte.
namespace fettle::formats {

static_assert(std::endian::native == std::endian::little, "file layouts are read in place");

template <typename T>
T load_as(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}
template <typename T>
void store_as(uint8_t* p, T v) {
  std::memcpy(p, &v, sizeof(T));
}

constexpr uint64_t every_lane(uint8_t b) { return 0x0101010101010101u * b; }
inline constexpr uint64_t kNibbles = every_lane(0x0F);

// Lanes below 16 to four bytes, lane 2j in the low nibble of byte j; and back.
inline uint32_t pair_up(uint64_t v) {
  v = (v | (v >> 4)) & 0x00FF00FF00FF00FFu;
  v = (v | (v >> 8)) & 0x0000FFFF0000FFFFu;
  return static_cast<uint32_t>(v | (v >> 16));
}
inline uint64_t unpair(uint32_t pairs) {
  uint64_t v = pairs;
  v = (v | (v << 16)) & 0x0000FFFF0000FFFFu;
  v = (v | (v << 8)) & 0x00FF00FF00FF00FFu;
  return (v | (v << 4)) & kNibbles;
}

// Bit i of b to lane i (0 or 1); and lane 0 bits back to one byte. The products put every wanted bit at a place of its
// own, so no carry can disturb it.
inline uint64_t spread_bits(uint8_t b) {
  const uint64_t low7 = ((b & 0x7Fu) * uint64_t{0x0002040810204081}) & every_lane(1);
  return low7 | (static_cast<uint64_t>(b >> 7) << 56);
}
inline uint8_t gather_bits(uint64_t lanes) {
  return static_cast<uint8_t>(((lanes & every_lane(1)) * uint64_t{0x0102040810204080}) >> 56);
}

// Lanes v in [0, 128) to signed v - bias (bias <= 128); and signed lanes in [-bias, 128 - bias) back. The top bit set
// keeps borrows inside a lane.
template <uint8_t kBias>
uint64_t subtract_bias(uint64_t v) {
  return ((v | every_lane(0x80)) - every_lane(kBias)) ^ every_lane(0x80);
}
template <uint8_t kBias>
uint64_t add_bias(uint64_t v) {
  return ((v ^ every_lane(0x80)) - every_lane(0x80 - kBias)) & every_lane(0x7F);
}

// `bytes` bytes (a multiple of 8) whose low nibbles are the first half of a run and whose high nibbles are the second
// half, to consecutive pairs; and back.
inline void halves_to_pairs(const uint8_t* halves, size_t bytes, uint8_t* pairs) {
  for (size_t j = 0; j < bytes; j += 8) {
    const auto v = load_as<uint64_t>(halves + j);
    store_as(pairs + j / 2, pair_up(v & kNibbles));
    store_as(pairs + (bytes + j) / 2, pair_up((v >> 4) & kNibbles));
  }
}
inline void pairs_to_halves(const uint8_t* pairs, size_t bytes, uint8_t* halves) {
  for (size_t j = 0; j < bytes; j += 8) {
    const uint64_t low = unpair(load_as<uint32_t>(pairs + j / 2));
    const uint64_t high = unpair(load_as<uint32_t>(pairs + (bytes + j) / 2));
    store_as(halves + j, low | (high << 4));
  }
}

}  // namespace fettle::formats
