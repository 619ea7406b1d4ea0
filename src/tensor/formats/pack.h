#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// Bit packing of integer codes (specs/00 2.4, compressed-tensors "pack-quantized"): element i of a run occupies bits
// [i*b, i*b + b) of its bit stream, least significant first, cut into little-endian 32-bit words; unused top bits are
// 0. Codes are unsigned: compressed-tensors stores q + 2^(b-1). b = 1..8.
namespace fettle::formats {

// 32-bit words of one run of n codes.
size_t packed_words(size_t n, int bits);

// [rows, cols] codes to words [rows, packed_words(cols)]: the layout of weight_packed. Codes must be < 2^bits.
std::vector<int32_t> pack_int32(std::span<const uint8_t> codes, size_t rows, size_t cols, int bits);
// [rows, cols] codes to words [packed_words(rows), cols], every column a run: the layout of weight_zero_point.
std::vector<int32_t> pack_int32_rows(std::span<const uint8_t> codes, size_t rows, size_t cols, int bits);

// The inverses, to [rows, cols] codes. words: exactly the packed bytes, any alignment (kInternal otherwise).
// For b = 4 a row of words is also, byte for byte, a row of canonical pairs (element 2j in the low nibble).
std::vector<uint8_t> unpack_int32(std::span<const std::byte> words, size_t rows, size_t cols, int bits);
std::vector<uint8_t> unpack_int32_rows(std::span<const std::byte> words, size_t rows, size_t cols, int bits);

// 4-bit codes, one per byte, to pairs with element 2j in the low nibble; a missing last element is 0.
// pairs: [(codes.size() + 1) / 2].
void pack_nibbles(std::span<const uint8_t> codes, uint8_t* pairs);
// codes.size() codes from [(codes.size() + 1) / 2] pairs.
void unpack_nibbles(const uint8_t* pairs, std::span<uint8_t> codes);

}  // namespace fettle::formats
