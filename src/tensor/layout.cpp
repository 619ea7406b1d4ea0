#include "tensor/layout.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "tensor/formats/fx3.h"
#include "tensor/input_transform.h"

namespace fettle {
namespace {

constexpr std::array<DType, 3> kFloats = {DType::kF32, DType::kBF16, DType::kF16};
constexpr std::array<DType, 3> only(DType t) { return {t, t, t}; }
constexpr DType kHalf = DType::kF16;

constexpr Layout kLayouts[] = {
    {Format::kFp8, DType::kF8E4M3, false, 0, kFloats, Mins::kNone, false, false},
    {Format::kInt8, DType::kI8, false, 0, kFloats, Mins::kOptional, false, true},
    {Format::kInt4, DType::kU8, true, 0, kFloats, Mins::kOptional, false, true},
    {Format::kInt3, DType::kU8, true, 0, kFloats, Mins::kOptional, false, true},
    {Format::kInt2, DType::kU8, true, 0, kFloats, Mins::kOptional, false, true},
    {Format::kNF4, DType::kU8, true, 0, kFloats, Mins::kOptional, false, false},
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

void check_part(const char* what, const Tensor& t, int64_t rows, int64_t cols, std::span<const DType> types) {
  const bool type_ok = std::find(types.begin(), types.end(), t.dtype()) != types.end();
  if (!type_ok || t.shape() != std::vector<int64_t>{rows, cols})
    fail(ErrorCode::kInternal, "packed weight: {}: expected {} [{}, {}], found {}", what, dtype_name(types[0]), rows,
         cols, t.describe());
}

void check_absent(const char* what, const Tensor& t) {
  if (t.numel() != 0) fail(ErrorCode::kInternal, "packed weight: {}: expected none, found {}", what, t.describe());
}

}  // namespace

const Layout* find_layout(Format format) {
  for (const Layout& l : kLayouts)
    if (l.format == format) return &l;
  return nullptr;
}

PackedWeight allocate_packed(Format format, int64_t rows, int64_t cols, const PackedParts& parts) {
  const Layout* layout = find_layout(format);
  FETTLE_CHECK(layout != nullptr);
  FETTLE_CHECK(!parts.zero_points || layout->zero_points);
  PackedWeight w;
  w.format = format;
  w.rows = rows;
  w.cols = cols;
  w.group_size = layout->fixed_group != 0 ? layout->fixed_group : parts.group_size;
  FETTLE_CHECK(w.group_size > 0);
  const bool offset_int8 = format == Format::kInt8 && parts.zero_points;
  w.codes = Tensor::empty(offset_int8 ? DType::kU8 : layout->codes,
                          {rows, layout->four_bit ? ceil_div<int64_t>(cols, 2) : cols});
  const auto& types = layout->scale_types;
  const bool choice = std::find(types.begin(), types.end(), parts.scale_dtype) != types.end();
  if (types[0] != types[1] && !choice)
    fail(ErrorCode::kInput, "{}: scale type {}: expected F32, BF16 or F16", format_info(format).name,
         dtype_name(parts.scale_dtype));
  w.scales = Tensor::empty(choice ? parts.scale_dtype : types[0], {rows, w.groups()});
  if (parts.zero_points) w.zero_points = Tensor::empty(DType::kU8, {rows, w.groups()});
  const int64_t supers = ceil_div<int64_t>(cols, kSuperBlock);
  if (layout->super_scales) w.super_scales = Tensor::empty(DType::kF16, {rows, supers});
  if (layout->mins == Mins::kPlain) w.mins = Tensor::empty(DType::kF16, {rows, w.groups()});
  if (layout->mins == Mins::kSuper) {
    w.mins = Tensor::empty(DType::kU8, {rows, w.groups()});
    w.super_mins = Tensor::empty(DType::kF16, {rows, supers});
  }
  return w;
}

void check_packed(const PackedWeight& w) {
  if (w.rows < 0 || w.cols < 0) fail(ErrorCode::kInternal, "packed weight: negative shape {} x {}", w.rows, w.cols);
  check_input_transform(w.input, w.cols);
  const FormatInfo& info = format_info(w.format);
  const Layout* layout = find_layout(w.format);
  if (w.format == Format::kFx3) {
    if (const std::string problem = formats::fx3_problem(w, false); !problem.empty())
      fail(ErrorCode::kInternal, "packed weight: fx3: {}", problem);
    return;
  }
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
    case Mins::kOptional:
      if (w.mins.is_empty()) break;
      [[fallthrough]];
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

}  // namespace fettle
