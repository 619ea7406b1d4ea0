#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tensor/weight.h"

// FX3: BF16 in three nibbles per weight, lossless, at a fixed rate that decodes about as fast as BF16 itself. The low
// byte of a weight (lowest exponent bit, mantissa) is stored as it is; the high byte (sign, upper seven exponent bits)
// as a 4-bit index into the 16 most frequent ones of its 96 rows. Gaussian weights have another high byte once in
// 40,000; such exceptions are listed per row, so any bit pattern survives.
//
// Rows are cut into tiles of 64 weights (the last one padded with zero bits): 32 bytes of indices, then 64 low bytes.
// Byte b of the indices holds the index of low byte b in its low nibble, that of low byte 32 + b in its high one. Low
// byte j belongs to weight fx3_weight_of(j): unpacking bytes of two 128-bit lanes and splitting 32-bit pairs then gives
// F32 vectors of eight consecutive weights.
namespace fettle::formats {

inline constexpr size_t kFx3Tile = 64;                  // weights
inline constexpr size_t kFx3IndexBytes = kFx3Tile / 2;  // of a tile
inline constexpr size_t kFx3TileBytes = 32 + kFx3Tile;  // indices, low bytes
inline constexpr size_t kFx3TableRows = 96;             // rows that share a table
inline constexpr size_t kFx3TableSize = 16;

constexpr size_t fx3_tiles(size_t cols) { return (cols + kFx3Tile - 1) / kFx3Tile; }
constexpr size_t fx3_tables(size_t rows) { return (rows + kFx3TableRows - 1) / kFx3TableRows; }
constexpr size_t fx3_weight_of(size_t j) {
  return j / 32 * 32 + j % 16 / 8 * 16 + j % 2 * 8 + j % 32 / 16 * 4 + j % 8 / 2;
}

// Weights of a row whose high byte is not in the table, by ascending column.
struct Fx3Exceptions {
  std::span<const uint32_t> cols;
  std::span<const uint8_t> highs;

  // Those of columns [begin, end).
  Fx3Exceptions within(size_t begin, size_t end) const;
};
Fx3Exceptions fx3_exceptions(const PackedWeight& w, size_t row);

// w: BF16 [N, K] of any bits, at any alignment; NaN payloads, infinities and denormals survive. Same bytes for any
// pool. Throws kInput for more than 2^32 - 1 exceptions.
PackedWeight fx3_from_bf16(const Tensor& w, ThreadPool* pool);

// Bit patterns of one row. out: [cols].
void fx3_decode_row_bits(const PackedWeight& w, int64_t row, std::span<uint16_t> out);

// BF16 [N, K], the tensor it was made from.
Tensor fx3_to_bf16(const PackedWeight& w, ThreadPool* pool);

// What is wrong with the parts, or "". Sizes and types; with `contents` also that the exceptions of every row lie in
// the row and ascend, so that decoding never writes elsewhere.
std::string fx3_problem(const PackedWeight& w, bool contents);

// Rounds to BF16 first. Throws kNumeric for NaN or infinity, kInput for an empty matrix.
PackedWeight encode_fx3(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
