#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tensor/weight.h"

// FX3: BF16 in about 11.2 bits, lossless, at a fixed rate that decodes faster than memory delivers. Rows are cut into
// tiles of 64 weights (the last one padded with zero bits): three 64-bit planes, then 64 sign-mantissa bytes. Bit j of
// plane p is bit p of code j: 0 to 6 = exponent `base of the row + code`, 7 = the next byte of the row's escapes. Code
// and byte j = 16q + r belong to weight 8q + r for r < 8, else 32 + 8q + r - 8: unpacking low and high halves of
// 128-bit lanes then gives 64 weights in order.
namespace fettle::formats {

inline constexpr size_t kFx3Tile = 64;                     // weights
inline constexpr size_t kFx3TileBytes = 3 * 8 + kFx3Tile;  // planes, sign and mantissa
inline constexpr size_t kFx3Group = 4096;                  // weights of a row per entry of escape_starts
inline constexpr int kFx3MaxBase = 248;                    // codes 0 to 6 stay below infinity
inline constexpr size_t kFx3EscapeSlack = kFx3Tile;        // bytes kernels may read behind the escapes

constexpr size_t fx3_tiles(size_t cols) { return (cols + kFx3Tile - 1) / kFx3Tile; }
constexpr size_t fx3_groups(size_t cols) { return (cols + kFx3Group - 1) / kFx3Group; }
constexpr size_t fx3_weight_of(size_t j) { return j / 16 * 8 + j % 8 + j % 16 / 8 * 32; }

// w: BF16 [N, K] of any bits, at any alignment; NaN payloads, infinities and denormals survive. Same bytes for any
// pool.
PackedWeight fx3_from_bf16(const Tensor& w, ThreadPool* pool);

// Bit patterns of one row. out: [cols].
void fx3_decode_row_bits(const PackedWeight& w, int64_t row, std::span<uint16_t> out);

// BF16 [N, K], the tensor it was made from.
Tensor fx3_to_bf16(const PackedWeight& w, ThreadPool* pool);

// What is wrong with the parts, or "". Sizes and types; with `contents` also that bases are in range and that the
// escapes counted in the planes are those of escape_starts, so that kernels never read beyond.
std::string fx3_problem(const PackedWeight& w, bool contents);

// Rounds to BF16 first. Throws kNumeric for NaN or infinity, kInput for an empty matrix.
PackedWeight encode_fx3(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
