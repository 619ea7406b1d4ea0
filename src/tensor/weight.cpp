#include "tensor/weight.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked.h"
#include "tensor/convert.h"
#include "tensor/formats/codecs.h"

namespace fettle {
namespace {

enum class Mins : uint8_t { kNone, kPlain, kSuper };

// Which parts a format may have. Scale types are listed per family below.
struct Layout {
  Format format;
  DType codes;  // of one element, or U8 pairs when four_bit
  bool four_bit;
  int64_t fixed_group;  // 0: any
  std::array<DType, 3> scale_types;
  Mins mins;
  bool super_scales;
  bool zero_points;  // allowed
};

constexpr std::array<DType, 3> kFloats = {DType::kF32, DType::kBF16, DType::kF16};
constexpr std::array<DType, 3> only(DType t) { return {t, t, t}; }
constexpr DType kHalf = DType::kF16;

constexpr Layout kLayouts[] = {
    {Format::kFp8, DType::kF8E4M3, false, 0, kFloats, Mins::kNone, false, false},
    {Format::kInt8, DType::kI8, false, 0, kFloats, Mins::kNone, false, true},
    {Format::kInt4, DType::kU8, true, 0, kFloats, Mins::kNone, false, true},
    {Format::kNF4, DType::kU8, true, 0, kFloats, Mins::kNone, false, false},
    {Format::kMxfp4, DType::kU8, true, 32, only(DType::kF8E8M0), Mins::kNone, false, false},
    {Format::kMxfp8, DType::kF8E4M3, false, 32, only(DType::kF8E8M0), Mins::kNone, false, false},
    {Format::kNvfp4, DType::kU8, true, 16, only(DType::kF8E4M3), Mins::kNone, false, false},
    {Format::kQ8_0, DType::kI8, false, 32, only(kHalf), Mins::kNone, false, false},
    {Format::kQ4_0, DType::kU8, true, 32, only(kHalf), Mins::kNone, false, false},
    {Format::kQ4_1, DType::kU8, true, 32, only(kHalf), Mins::kPlain, false, false},
    {Format::kQ5_0, DType::kI8, false, 32, only(kHalf), Mins::kNone, false, false},
    {Format::kQ5_1, DType::kU8, false, 32, only(kHalf), Mins::kPlain, false, false},
    {Format::kQ2_K, DType::kU8, true, 16, only(DType::kU8), Mins::kSuper, true, false},
    {Format::kQ3_K, DType::kU8, true, 16, only(DType::kI8), Mins::kNone, true, false},
    {Format::kQ4_K, DType::kU8, true, 32, only(DType::kU8), Mins::kSuper, true, false},
    {Format::kQ5_K, DType::kU8, false, 32, only(DType::kU8), Mins::kSuper, true, false},
    {Format::kQ6_K, DType::kI8, false, 16, only(DType::kI8), Mins::kNone, true, false},
    {Format::kIQ4_NL, DType::kU8, true, 32, only(kHalf), Mins::kNone, false, false},
    {Format::kQ1_0, DType::kU8, true, 128, only(kHalf), Mins::kNone, false, false},
    {Format::kQ2_0, DType::kU8, true, 64, only(kHalf), Mins::kNone, false, false},
};

const Layout* find_layout(Format format) {
  for (const Layout& l : kLayouts)
    if (l.format == format) return &l;
  return nullptr;
}

void check_part(const char* what, const Tensor& t, int64_t rows, int64_t cols, std::span<const DType> types) {
  const bool type_ok = std::find(types.begin(), types.end(), t.dtype()) != types.end();
  if (!type_ok || t.shape() != std::vector<int64_t>{rows, cols})
    fail(ErrorCode::kInternal, "packed weight: {}: expected {} [{}, {}], found {}", what, dtype_name(types[0]), rows,
         cols, t.describe());
}

void check_absent(const char* what, const Tensor& t) {
  if (t.numel() != 0) fail(ErrorCode::kInternal, "packed weight: {}: expected none, found {}", what, t.describe());
}

constexpr int64_t kSuperBlock = 256;  // elements under one super scale of the K-quants

// Scale and minimum of group g of a row, F32, in the multiplication order that ggml uses (super scale * scale).
struct GroupScale {
  float scale, min;
};

// Row views of the small parts, converted once.
struct RowParts {
  std::vector<float> scales, mins, super_scales, super_mins;
  const uint8_t* zeros = nullptr;

  static void load(const Tensor& t, int64_t row, std::vector<float>* out) {
    if (t.numel() == 0) return;
    const auto per_row = static_cast<size_t>(t.dim(1));
    out->resize(per_row);
    convert_to_f32(t.dtype(), t.bytes().data() + static_cast<size_t>(row) * per_row * dtype_bytes(t.dtype()), *out);
  }
  RowParts(const PackedWeight& w, int64_t row) {
    load(w.scales, row, &scales);
    load(w.mins, row, &mins);
    load(w.super_scales, row, &super_scales);
    load(w.super_mins, row, &super_mins);
    if (w.zero_points.numel() != 0) zeros = w.zero_points.data<uint8_t>() + row * w.groups();
  }
  GroupScale at(size_t g, size_t super) const {
    GroupScale s{scales[g], 0.0f};
    if (!super_scales.empty()) s.scale = super_scales[super] * s.scale;
    if (!super_mins.empty()) {
      s.min = -(super_mins[super] * mins[g]);
    } else if (!mins.empty()) {
      s.min = mins[g];
    }
    return s;
  }
};

// Values of codes [begin, end) of one row, before scales.
void code_values(const PackedWeight& w, const FormatInfo& info, int64_t row, size_t begin, size_t end, float zero,
                 float* out) {
  const auto cols = static_cast<size_t>(w.cols), r = static_cast<size_t>(row);
  const auto* bytes = reinterpret_cast<const uint8_t*>(w.codes.bytes().data());
  if (info.code_bits == 4) {
    const uint8_t* pairs = bytes + r * ceil_div<size_t>(cols, 2);
    for (size_t k = begin; k < end; ++k) {
      const auto code = static_cast<uint8_t>((pairs[k / 2] >> (4 * (k % 2))) & 15);
      out[k - begin] = info.kind == CodeKind::kTable16 ? info.table[code] : static_cast<float>(code) - zero;
    }
    return;
  }
  const uint8_t* codes = bytes + r * cols;
  for (size_t k = begin; k < end; ++k) {
    if (w.codes.dtype() == DType::kF8E4M3) {
      out[k - begin] = formats::e4m3_to_f32(codes[k]);
    } else if (w.codes.dtype() == DType::kI8) {
      out[k - begin] = static_cast<float>(static_cast<int8_t>(codes[k]));
    } else {
      out[k - begin] = static_cast<float>(codes[k]) - zero;
    }
  }
}

}  // namespace

size_t PackedWeight::bytes() const {
  return codes.nbytes() + scales.nbytes() + zero_points.nbytes() + mins.nbytes() + super_scales.nbytes() +
         super_mins.nbytes();
}

double PackedWeight::bits_per_weight() const {
  const double n = static_cast<double>(rows) * static_cast<double>(cols);
  return n > 0 ? 8.0 * static_cast<double>(bytes()) / n : 0.0;
}

size_t PackedWeight::file_bytes() const {
  const double bits = format_info(format).gguf_bits;
  if (bits == 0) return bytes();
  return static_cast<size_t>(std::llround(static_cast<double>(rows) * static_cast<double>(cols) * bits / 8.0));
}

double PackedWeight::file_bits_per_weight() const {
  const double bits = format_info(format).gguf_bits;
  return bits != 0 ? bits : bits_per_weight();
}

void decode_row(const PackedWeight& w, int64_t row, std::span<float> out) {
  FETTLE_CHECK(row >= 0 && row < w.rows);
  FETTLE_CHECK_EQ(out.size(), static_cast<size_t>(w.cols));
  const FormatInfo& info = format_info(w.format);
  if (info.kind == CodeKind::kDense) {
    const size_t stride = out.size() * dtype_bytes(w.codes.dtype());
    convert_to_f32(w.codes.dtype(), w.codes.bytes().data() + static_cast<size_t>(row) * stride, out);
    return;
  }
  const RowParts parts(w, row);
  const bool has_min = !parts.mins.empty();
  const auto group = static_cast<size_t>(w.group_size);
  for (size_t g = 0; g * group < out.size(); ++g) {
    const size_t begin = g * group, end = std::min(begin + group, out.size());
    const GroupScale s = parts.at(g, begin / kSuperBlock);
    const float zero =
        parts.zeros != nullptr ? static_cast<float>(parts.zeros[g]) : static_cast<float>(info.code_offset);
    code_values(w, info, row, begin, end, zero, out.data() + begin);
    for (size_t k = begin; k < end; ++k) {
      float x = out[k] * s.scale;
      if (has_min) x += s.min;
      out[k] = w.tensor_scale * x;
    }
  }
}

std::vector<float> decode(const PackedWeight& w) {
  check_packed(w);
  const auto cols = static_cast<size_t>(w.cols);
  std::vector<float> out(static_cast<size_t>(w.rows) * cols);
  for (int64_t r = 0; r < w.rows; ++r) decode_row(w, r, std::span(out).subspan(static_cast<size_t>(r) * cols, cols));
  return out;
}

void check_packed(const PackedWeight& w) {
  if (w.rows < 0 || w.cols < 0) fail(ErrorCode::kInternal, "packed weight: negative shape {} x {}", w.rows, w.cols);
  const FormatInfo& info = format_info(w.format);
  const Layout* layout = find_layout(w.format);
  if (layout == nullptr) {
    const DType type = w.format == Format::kF32 ? DType::kF32 : w.format == Format::kF16 ? DType::kF16 : DType::kBF16;
    check_part("codes", w.codes, w.rows, w.cols, std::array{type});
    for (const Tensor* t : {&w.scales, &w.zero_points, &w.mins, &w.super_scales, &w.super_mins})
      check_absent("parts beside dense codes", *t);
    return;
  }
  if (w.group_size <= 0 || (layout->fixed_group != 0 && w.group_size != layout->fixed_group))
    fail(ErrorCode::kInternal, "packed weight: {}: group size {} (expected {})", info.name, w.group_size,
         layout->fixed_group);
  const bool has_zeros = w.zero_points.numel() != 0;
  const DType code_type = w.format == Format::kInt8 && has_zeros ? DType::kU8 : layout->codes;
  check_part("codes", w.codes, w.rows, layout->four_bit ? ceil_div<int64_t>(w.cols, 2) : w.cols, std::array{code_type});
  check_part("scales", w.scales, w.rows, w.groups(), layout->scale_types);
  if (has_zeros && !layout->zero_points) check_absent("zero points", w.zero_points);
  if (has_zeros) check_part("zero points", w.zero_points, w.rows, w.groups(), std::array{DType::kU8});

  const int64_t supers = ceil_div<int64_t>(w.cols, kSuperBlock);
  if (layout->super_scales) {
    check_part("super scales", w.super_scales, w.rows, supers, std::array{DType::kF16});
  } else {
    check_absent("super scales", w.super_scales);
  }
  switch (layout->mins) {
    case Mins::kNone:
      check_absent("mins", w.mins);
      check_absent("super mins", w.super_mins);
      break;
    case Mins::kPlain:
      check_part("mins", w.mins, w.rows, w.groups(), std::array{DType::kF16, DType::kF32});
      check_absent("super mins", w.super_mins);
      break;
    case Mins::kSuper:
      check_part("mins", w.mins, w.rows, w.groups(), std::array{DType::kU8});
      check_part("super mins", w.super_mins, w.rows, supers, std::array{DType::kF16});
      break;
  }
  if (!std::isfinite(w.tensor_scale)) fail(ErrorCode::kInternal, "packed weight: tensor scale {}", w.tensor_scale);
}

PackedWeight dense_weight(const Tensor& t) {
  PackedWeight w;
  switch (t.dtype()) {
    case DType::kF32:
      w.format = Format::kF32;
      break;
    case DType::kF16:
      w.format = Format::kF16;
      break;
    case DType::kBF16:
      w.format = Format::kBF16;
      break;
    default:
      fail(ErrorCode::kInput, "dense weight: expected F32, F16 or BF16, found {}", t.describe());
  }
  if (t.rank() != 2) fail(ErrorCode::kInput, "dense weight: expected [N, K], found {}", t.describe());
  w.rows = t.dim(0);
  w.cols = t.dim(1);
  w.codes = t;
  return w;
}

}  // namespace fettle
