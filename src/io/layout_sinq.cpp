#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/linear_parts.h"
#include "tensor/formats/pack.h"

// Checkpoints of huawei-csl/SINQ 6930f78 (specs/04 section 3). Codes are a matrix [R = O*K/block, block] in row-major
// (row, tile) order, packed along its rows: word r holds the codes of rows r, r + S, r + 2S, ..., first in the top
// bits.
namespace fettle::io {
namespace {

const std::initializer_list<DType> kFloats = {DType::kF32, DType::kF16, DType::kBF16};

struct Packing {
  int bits;
  int per_word;  // codes in a word
  bool words;    // I32 instead of U8
};
constexpr Packing kPackings[] = {{1, 8, false}, {2, 4, false}, {3, 10, true}, {4, 2, false},
                                 {5, 6, true},  {6, 5, true},  {8, 1, false}};

// Codes, one per byte: [rows, cols].
Tensor unpack(const Parts& parts, int bits, int64_t rows, int64_t cols, int64_t block) {
  const auto* packing =
      std::find_if(std::begin(kPackings), std::end(kPackings), [&](const Packing& p) { return p.bits == bits; });
  if (packing == std::end(kPackings))
    parts.refuse(".W_q", fmt::format("{} bits: expected 1, 2, 3, 4, 5, 6 or 8", bits));
  const int64_t lines = rows * cols / block, stride = (lines + packing->per_word - 1) / packing->per_word;
  if (!packing->words && lines % packing->per_word != 0)
    parts.refuse(".W_q", fmt::format("{} groups do not fill bytes of {} codes", lines, packing->per_word));
  const Tensor t = parts.need(".W_q", {packing->words ? DType::kI32 : DType::kU8}, {{stride, block}});
  Tensor out = Tensor::empty(DType::kU8, {rows, cols});
  uint8_t* to = out.mutable_data<uint8_t>();
  const uint32_t mask = (1u << bits) - 1;
  for (int64_t line = 0; line < lines; ++line) {
    const int64_t slot = line / stride, from = line % stride;
    const int shift = bits * (packing->per_word - 1 - static_cast<int>(slot));
    for (int64_t c = 0; c < block; ++c) {
      const uint32_t word = packing->words ? static_cast<uint32_t>(t.data<int32_t>()[from * block + c])
                                           : t.data<uint8_t>()[from * block + c];
      to[line * block + c] = static_cast<uint8_t>(word >> shift & mask);
    }
  }
  return out;
}

// A plain float tensor of n values, or its 8-bit form x * s + m with one (s, m) per column of x.
std::vector<float> read_values(const Parts& parts, const std::string& name, int64_t n) {
  const std::string x = name + ".x";
  if (!parts.has(x)) {
    const Tensor t = parts.need(name, kFloats, {{n, 1}, {n}, {}, {1}});
    check_finite(parts, name, t);
    std::vector<float> values = t.to_f32();
    if (static_cast<int64_t>(values.size()) != n) values.assign(static_cast<size_t>(n), values[0]);
    return values;
  }
  std::initializer_list<std::vector<int64_t>> shapes = {{n, 1}};
  const std::vector<int64_t> grouped = {32, n / 32};
  const Tensor codes =
      n % 32 == 0 ? parts.need(x, {DType::kU8}, {grouped, {n, 1}}) : parts.need(x, {DType::kU8}, shapes);
  const int64_t groups = codes.dim(1);
  const Tensor step = parts.need(name + ".s", kFloats, {{1, groups}}),
               base = parts.need(name + ".m", kFloats, {{1, groups}});
  check_finite(parts, name + ".m", base);
  std::vector<float> s = step.to_f32(), m = base.to_f32(), out(static_cast<size_t>(n));
  for (float& v : s)
    if (!std::isfinite(v)) v = 0;  // constant columns: upstream divides by a range of 0
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t g = i % static_cast<size_t>(groups);
    out[i] = static_cast<float>(codes.data<uint8_t>()[i]) * s[g] + m[g];
  }
  return out;
}

Tensor matrix_of(const std::vector<float>& values, int64_t rows, int64_t cols) {
  return Tensor::from<float>(values, {rows, cols});
}

// Zero points as they are stored in the integer formats, when all of them are whole numbers of 0..255.
Tensor whole_zeros(const std::vector<float>& zeros, int64_t rows, int64_t groups) {
  const auto whole = [](float z) { return z >= 0 && z <= 255 && z == std::floor(z); };
  if (!std::all_of(zeros.begin(), zeros.end(), whole)) return {};
  Tensor out = Tensor::empty(DType::kU8, {rows, groups});
  std::transform(zeros.begin(), zeros.end(), out.mutable_data<uint8_t>(),
                 [](float z) { return static_cast<uint8_t>(z); });
  return out;
}

}  // namespace

PackedWeight read_sinq(const Parts& parts, const SinqLeaf& leaf, int64_t rows, int64_t cols) {
  const int64_t block = leaf.group_size;
  if (leaf.square_tiles)
    parts.refuse(".meta.scale2", "2D tiles have other column factors in every row panel; requantise with tiling 1D");
  if (block <= 0 || cols % block != 0)
    parts.refuse(".W_q", fmt::format("{} columns are no multiple of the group of {}", cols, block));
  const int64_t groups = cols / block;
  const bool nf4 = leaf.method.find("nf4") != std::string::npos;
  if (leaf.method.find("nf3") != std::string::npos)
    parts.refuse(".W_q", "the 3-bit float table (nf3) is not supported; use int3");
  Tensor codes = unpack(parts, leaf.bits, rows, cols, block);
  const std::vector<float> scale = read_values(parts, ".meta.scale", rows * groups);
  const std::vector<float> zero = read_values(parts, ".meta.zero", rows * groups);
  RowScales scales{matrix_of(scale, rows, groups), block};

  PackedWeight w;
  const Tensor zeros = nf4 ? Tensor() : whole_zeros(zero, rows, groups);
  if (!zeros.is_empty()) {
    w = integer_weight(leaf.bits, std::move(codes), zeros, std::move(scales));
  } else {
    w = integer_weight(leaf.bits, std::move(codes), {}, std::move(scales));
    if (nf4) w.format = Format::kNF4;
    // (code - zero) * s = (code - offset) * s + (offset - zero) * s
    const auto offset =
        nf4 ? 0.0f
            : static_cast<float>(w.format == Format::kInt8 ? 1 << (leaf.bits - 1) : format_info(w.format).code_offset);
    const float shift = leaf.bits == 1 ? 1.0f : 0.0f;  // one-bit codes sit one higher in int2
    std::vector<float> mins(scale.size());
    for (size_t i = 0; i < mins.size(); ++i) mins[i] = (offset - shift - zero[i]) * scale[i];
    w.mins = matrix_of(mins, rows, groups);
  }
  const Tensor col = parts.need(".meta.scale2", kFloats, {{1, cols}, {cols}});
  check_finite(parts, ".meta.scale2", col);
  w.input.col_scales = Tensor::from<float>(col.to_f32(), {cols});
  return w;
}

}  // namespace fettle::io
