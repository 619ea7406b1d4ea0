#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "io/linear_parts.h"
#include "tensor/formats/pack.h"

// AutoAWQ and GPTQ: integer codes stored transposed, K first (specs/00 section 2.5).
namespace fettle::io {
namespace {

// AWQ packs 8 output channels per word; nibble p holds channel kAwqOrder[p] of the eight.
constexpr int kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

// Words [R, C/8] in AWQ order -> bytes [C, R].
Tensor unpack_awq(const Tensor& words) {
  const int64_t rows = words.dim(0), per_row = words.dim(1);
  Tensor out = Tensor::empty(DType::kU8, {per_row * 8, rows});
  auto* to = out.mutable_data<uint8_t>();
  constexpr int64_t kTile = 64;  // rows of words whose eight output lines stay in L1
  for (int64_t r0 = 0; r0 < rows; r0 += kTile)
    for (int64_t c = 0; c < per_row; ++c)
      for (int64_t r = r0; r < std::min(rows, r0 + kTile); ++r) {
        const auto word = static_cast<uint32_t>(words.data<int32_t>()[r * per_row + c]);
        for (int p = 0; p < 8; ++p)
          to[(c * 8 + kAwqOrder[p]) * rows + r] = static_cast<uint8_t>((word >> (4 * p)) & 15);
      }
  return out;
}

// The same into canonical pairs: 8 x 8 nibbles change places at a time. R a multiple of 8; words [C, R/8] come out.
Tensor repack_awq(const Tensor& words) {
  const int64_t rows = words.dim(0), per_row = words.dim(1);
  Tensor out = Tensor::empty(DType::kI32, {per_row * 8, rows / 8});
  auto* to = out.mutable_data<int32_t>();
  const int32_t* from = words.data<int32_t>();
  for (int64_t r = 0; r < rows; r += 8)
    for (int64_t c = 0; c < per_row; ++c)
      for (int p = 0; p < 8; ++p) {
        uint32_t line = 0;
        for (int i = 0; i < 8; ++i)
          line |= ((static_cast<uint32_t>(from[(r + i) * per_row + c]) >> (4 * p)) & 15u) << (4 * i);
        to[(c * 8 + kAwqOrder[p]) * (rows / 8) + r / 8] = static_cast<int32_t>(line);
      }
  return out;
}

// Words [K*bits/32, N], a bit stream down every column -> bytes [N, K].
Tensor unpack_down(const Tensor& words, int bits, int64_t length) {
  const int64_t cols = words.dim(1);
  const auto codes =
      formats::unpack_int32_rows(words.bytes(), static_cast<size_t>(length), static_cast<size_t>(cols), bits);
  return transposed(Tensor::from<uint8_t>(codes, {length, cols}));
}

// [G, N] scales of the file as [N, G].
RowScales column_scales(const Parts& parts, int64_t group_size, int64_t rows, int64_t cols) {
  const int64_t group = group_size > 0 ? std::min(group_size, cols) : cols;
  const Tensor t = parts.need(".scales", {DType::kF16, DType::kBF16, DType::kF32}, {{ceil_div(cols, group), rows}});
  check_finite(parts, ".scales", t);
  return {transposed(t), group};
}

}  // namespace

PackedWeight read_awq(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  if (rows % 8 != 0) parts.refuse(".qweight", fmt::format("{} output channels are no multiple of 8", rows));
  const Tensor packed = parts.need(".qweight", {DType::kI32}, {{cols, rows / 8}});
  RowScales scales = column_scales(parts, scheme.group_size, rows, cols);
  Tensor zeros;
  if (!scheme.symmetric) zeros = unpack_awq(parts.need(".qzeros", {DType::kI32}, {{scales.scales.dim(1), rows / 8}}));
  if (cols % 8 == 0) return int4_weight(repack_awq(packed), std::move(zeros), std::move(scales), rows, cols);
  return integer_weight(4, unpack_awq(packed), std::move(zeros), std::move(scales));
}

PackedWeight read_gptq(const Parts& parts, const WeightScheme& scheme, bool v2, int64_t rows, int64_t cols) {
  const int bits = scheme.num_bits;
  if (cols * bits % 32 != 0 || rows * bits % 32 != 0)
    parts.refuse(".qweight", fmt::format("{} x {} weights of {} bits do not fill 32-bit words", rows, cols, bits));
  const Tensor packed = parts.need(".qweight", {DType::kI32}, {{cols * bits / 32, rows}});
  RowScales scales = column_scales(parts, scheme.group_size, rows, cols);
  const int64_t groups = scales.scales.dim(1);
  // qzeros [G, N*bits/32]: a bit stream along N per group; v1 stores zero - 1.
  const Tensor stored = parts.need(".qzeros", {DType::kI32}, {{groups, rows * bits / 32}});
  std::vector<uint8_t> values =
      formats::unpack_int32(stored.bytes(), static_cast<size_t>(groups), static_cast<size_t>(rows), bits);
  for (size_t i = 0; i < values.size() && !v2; ++i)
    if (values[i]++ == 255)
      parts.refuse(".qzeros", fmt::format("group {}, row {}: zero point 256 is out of range", i / rows, i % rows));
  const Tensor zeros = transposed(Tensor::from<uint8_t>(values, {groups, rows}));
  if (parts.has(".g_idx") && permutes_groups(parts, ".g_idx", cols, scales))
    return indexed_weight(parts, ".g_idx", bits, unpack_down(packed, bits, cols), zeros, scales);
  // Eight consecutive k of a column share a word, lowest nibble first: transposed words are canonical pairs.
  if (bits == 4) return int4_weight(transposed(packed), zeros, std::move(scales), rows, cols);
  return integer_weight(bits, unpack_down(packed, bits, cols), zeros, std::move(scales));
}

}  // namespace fettle::io
