#include "io/linear_parts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "tensor/formats/pack.h"

namespace fettle::io {
namespace {

std::string expected_text(std::initializer_list<DType> dtypes, std::initializer_list<std::vector<int64_t>> shapes) {
  std::string text;
  for (const DType d : dtypes) text += fmt::format("{}{}", text.empty() ? "" : "|", dtype_name(d));
  const char* before = " ";
  for (const auto& s : shapes) {
    text += before + shape_text(s);
    before = " or ";
  }
  return text;
}

// First index with a value that cannot be a scale, or -1.
template <typename T, typename Bad>
int64_t first_bad(const Tensor& t, Bad bad) {
  const T* p = t.data<T>();
  for (int64_t i = 0; i < t.numel(); ++i)
    if (bad(p[i])) return i;
  return -1;
}

int64_t first_non_finite(const Tensor& t) {
  switch (t.dtype()) {
    case DType::kF32:
      return first_bad<uint32_t>(t, [](uint32_t b) { return (b & 0x7F800000u) == 0x7F800000u; });
    case DType::kBF16:
      return first_bad<uint16_t>(t, [](uint16_t b) { return (b & 0x7F80u) == 0x7F80u; });
    case DType::kF16:
      return first_bad<uint16_t>(t, [](uint16_t b) { return (b & 0x7C00u) == 0x7C00u; });
    case DType::kF8E4M3:
      return first_bad<uint8_t>(t, [](uint8_t b) { return (b & 0x7Fu) == 0x7Fu; });
    case DType::kF8E8M0:
      return first_bad<uint8_t>(t, [](uint8_t b) { return b == 0xFFu; });
    default:
      return -1;
  }
}

// Rows of a [R, G] tensor repeated so that row n shows row n / every.
Tensor repeat_rows(const Tensor& t, int64_t rows, int64_t every, int64_t groups) {
  Tensor out = Tensor::empty(t.dtype(), {rows, groups});
  const size_t row_bytes = static_cast<size_t>(groups) * dtype_bytes(t.dtype());
  auto* to = const_cast<std::byte*>(out.bytes().data());
  for (int64_t n = 0; n < rows; ++n)
    std::memcpy(to + static_cast<size_t>(n) * row_bytes, t.bytes().data() + static_cast<size_t>(n / every) * row_bytes,
                row_bytes);
  return out;
}

}  // namespace

Tensor Parts::need(std::string_view suffix, std::initializer_list<DType> dtypes,
                   std::initializer_list<std::vector<int64_t>> shapes) const {
  const std::string full = name(suffix);
  const TensorEntry& entry = source_.at(full);
  const bool dtype_ok = entry.dtype && std::find(dtypes.begin(), dtypes.end(), *entry.dtype) != dtypes.end();
  const bool shape_ok = std::find(shapes.begin(), shapes.end(), entry.shape) != shapes.end();
  if (!dtype_ok || !shape_ok)
    fail(ErrorCode::kInput, "{}: tensor \"{}\": expected {}, found {}", source_.file_of(full), printable(full),
         expected_text(dtypes, shapes), entry.describe());
  Tensor t = source_.get(full);
  return reinterpret_cast<uintptr_t>(t.bytes().data()) % dtype_bytes(t.dtype()) == 0 ? t : t.copy();
}

float Parts::scalar(std::string_view suffix) const {
  const Tensor t = need(suffix, {DType::kF32, DType::kBF16, DType::kF16}, {{1}, {}});
  const float value = t.to_f32()[0];
  if (!std::isfinite(value) || value == 0.0f)
    refuse(suffix, fmt::format("expected a finite, non-zero scale, found {}", value));
  return value;
}

void Parts::refuse(std::string_view suffix, std::string_view problem) const {
  const std::string full = name(suffix);
  const std::string& file = source_.has(full) ? source_.file_of(full) : source_.path();
  fail(ErrorCode::kInput, "{}: tensor \"{}\": {}", file, printable(full), problem);
}

void check_finite(const Parts& parts, std::string_view suffix, const Tensor& scales) {
  const int64_t at = first_non_finite(scales);
  if (at < 0) return;
  const int64_t groups = scales.rank() >= 2 ? scales.shape().back() : 1;
  parts.refuse(suffix,
               fmt::format("scale of row {}, group {} is not finite (NaN code or infinity)", at / groups, at % groups));
}

RowScales read_row_scales(const Parts& parts, std::string_view suffix, const WeightScheme& scheme, int64_t rows,
                          int64_t cols) {
  const std::initializer_list<DType> kFloats = {DType::kBF16, DType::kF16, DType::kF32};
  RowScales out;
  switch (scheme.strategy) {
    case ScaleStrategy::kTensor: {
      const Tensor t = parts.need(suffix, kFloats, {{1}, {}, {1, 1}});
      check_finite(parts, suffix, t);
      return {repeat_rows(t, rows, rows, 1), cols};
    }
    case ScaleStrategy::kChannel:
      out = {parts.need(suffix, kFloats, {{rows, 1}, {rows}}).reshaped({rows, 1}), cols};
      break;
    case ScaleStrategy::kBlock: {
      const int64_t groups = ceil_div(cols, scheme.block_cols);
      const Tensor t = parts.need(suffix, kFloats, {{ceil_div(rows, scheme.block_rows), groups}});
      check_finite(parts, suffix, t);
      return {repeat_rows(t, rows, scheme.block_rows, groups), std::min(scheme.block_cols, cols)};
    }
    case ScaleStrategy::kGroup:
    case ScaleStrategy::kTensorGroup: {
      const int64_t group = scheme.group_size > 0 ? std::min(scheme.group_size, cols) : cols;
      out = {parts.need(suffix, kFloats, {{rows, ceil_div(cols, group)}}), group};
      break;
    }
  }
  check_finite(parts, suffix, out.scales);
  return out;
}

Tensor reinterpret(const Tensor& t, DType dtype, std::vector<int64_t> shape) {
  return Tensor::borrow(dtype, std::move(shape), t.bytes(), t.owned() ? std::make_shared<Tensor>(t) : t.keep_alive());
}

namespace {
template <typename T>
void transpose_into(const Tensor& t, Tensor* out) {
  const T* from = t.data<T>();
  T* to = out->mutable_data<T>();
  const int64_t rows = t.dim(0), cols = t.dim(1);
  constexpr int64_t kTile = 32;  // 32 x 32 words of either side stay in L1
  for (int64_t r0 = 0; r0 < rows; r0 += kTile)
    for (int64_t c0 = 0; c0 < cols; c0 += kTile)
      for (int64_t r = r0; r < std::min(rows, r0 + kTile); ++r)
        for (int64_t c = c0; c < std::min(cols, c0 + kTile); ++c) to[c * rows + r] = from[r * cols + c];
}
}  // namespace

Tensor transposed(const Tensor& t) {
  Tensor out = Tensor::empty(t.dtype(), {t.dim(1), t.dim(0)});
  switch (dtype_bytes(t.dtype())) {
    case 1:
      transpose_into<uint8_t>(t, &out);
      break;
    case 2:
      transpose_into<uint16_t>(t, &out);
      break;
    default:
      transpose_into<uint32_t>(t, &out);
  }
  return out;
}

namespace {

// Zero points that all equal the symmetric offset say nothing: same numbers without them, and faster kernels.
bool all_equal(const Tensor& zeros, int offset) {
  if (zeros.numel() == 0) return true;
  const uint8_t* z = zeros.data<uint8_t>();
  return std::all_of(z, z + zeros.numel(), [&](uint8_t v) { return v == offset; });
}

PackedWeight integer_shell(Format format, int64_t rows, int64_t cols, RowScales scales) {
  PackedWeight w;
  w.format = format;
  w.rows = rows;
  w.cols = cols;
  w.group_size = scales.group_size;
  w.scales = std::move(scales.scales);
  return w;
}

}  // namespace

PackedWeight int4_weight(const Tensor& codes, Tensor zeros, RowScales scales, int64_t rows, int64_t cols) {
  PackedWeight w = integer_shell(Format::kInt4, rows, cols, std::move(scales));
  w.codes = reinterpret(codes, DType::kU8, {rows, cols / 2});
  if (!all_equal(zeros, 8)) w.zero_points = std::move(zeros);
  return w;
}

PackedWeight integer_weight(int bits, Tensor codes, Tensor zeros, RowScales scales) {
  const int64_t rows = codes.dim(0), cols = codes.dim(1);
  const int offset = 1 << (bits - 1);
  const bool symmetric = all_equal(zeros, offset);
  const Format format = bits <= 2   ? Format::kInt2
                        : bits == 3 ? Format::kInt3
                        : bits == 4 ? Format::kInt4
                                    : Format::kInt8;
  PackedWeight w = integer_shell(format, rows, cols, std::move(scales));
  uint8_t* from = codes.mutable_data<uint8_t>();
  if (w.format == Format::kInt8) {
    w.codes = symmetric ? Tensor::empty(DType::kI8, {rows, cols}) : codes;
    for (int64_t i = 0; i < rows * cols && symmetric; ++i)
      w.codes.mutable_data<int8_t>()[i] = static_cast<int8_t>(static_cast<int>(from[i]) - offset);
  } else {
    if (symmetric && bits == 1)  // into int2's offset of 2
      std::transform(from, from + codes.numel(), from, [&](uint8_t c) { return static_cast<uint8_t>(c + 1); });
    const auto k = static_cast<size_t>(cols), pairs = ceil_div<size_t>(k, 2);
    w.codes = Tensor::empty(DType::kU8, {rows, static_cast<int64_t>(pairs)});
    for (size_t n = 0; n < static_cast<size_t>(rows); ++n)
      formats::pack_nibbles({from + n * k, k}, w.codes.mutable_data<uint8_t>() + n * pairs);
  }
  if (!symmetric) w.zero_points = std::move(zeros);
  return w;
}

bool permutes_groups(const Parts& parts, std::string_view suffix, int64_t cols, const RowScales& scales) {
  const Tensor t = parts.need(suffix, {DType::kI32}, {{cols}});
  const int32_t* group = t.data<int32_t>();
  const int64_t groups = scales.scales.dim(1);
  if (std::all_of(group, group + cols, [](int32_t g) { return g == -1; })) return false;
  bool permuted = false;
  for (int64_t k = 0; k < cols; ++k) {
    if (group[k] < 0 || group[k] >= groups)
      parts.refuse(suffix, fmt::format("column {}: expected a group in [0, {}), found {}", k, groups, group[k]));
    permuted |= group[k] != k / scales.group_size;
  }
  return permuted;
}

PackedWeight indexed_weight(const Parts& parts, std::string_view suffix, int bits, const Tensor& codes,
                            const Tensor& zeros, const RowScales& scales) {
  log_warning("{}: columns are grouped by activation order; the weight is kept as dense F32", parts.name(suffix));
  const int64_t rows = codes.dim(0), cols = codes.dim(1), groups = scales.scales.dim(1);
  const Tensor index = parts.need(suffix, {DType::kI32}, {{cols}});
  const std::vector<float> scale = scales.scales.to_f32();
  Tensor out = Tensor::empty(DType::kF32, {rows, cols});
  for (int64_t n = 0; n < rows; ++n)
    for (int64_t k = 0; k < cols; ++k) {
      const int64_t g = n * groups + index.data<int32_t>()[k];
      const int zero = zeros.numel() ? zeros.data<uint8_t>()[g] : 1 << (bits - 1);
      out.mutable_data<float>()[n * cols + k] =
          static_cast<float>(codes.data<uint8_t>()[n * cols + k] - zero) * scale[static_cast<size_t>(g)];
    }
  return dense_weight(out);
}

PackedWeight read_dense(const Parts& parts, int64_t rows, int64_t cols) {
  return dense_weight(parts.need(".weight", {DType::kBF16, DType::kF16, DType::kF32}, {{rows, cols}}));
}

}  // namespace fettle::io
