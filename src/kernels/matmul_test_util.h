#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernels/matmul.h"
#include "tensor/formats/codecs.h"

// Random weights in every canonical layout, and the plain reference products they are checked against.
namespace fettle::kernels::test {

struct WeightCase {
  Format format;
  int64_t rows, cols, group;
  DType scale_dtype = DType::kF32;
  bool zero_points = false;
  bool mins = false;  // of the formats that may have them
};

inline uint8_t random_byte(Random& r, int lo, int hi) {
  return static_cast<uint8_t>(lo + static_cast<int>(r.below(static_cast<uint64_t>(hi - lo + 1))));
}

inline Tensor random_values(Random& r, DType dtype, int64_t rows, int64_t cols, double size) {
  Tensor t = Tensor::zeros(dtype, {rows, cols});
  for (int64_t i = 0; i < rows * cols; ++i) {
    const auto v = static_cast<float>(size * (0.25 + r.uniform()) * (r.below(8) == 0 ? -1.0 : 1.0));
    switch (dtype) {
      case DType::kF32:
        t.mutable_data<float>()[i] = v;
        break;
      case DType::kF16:
        t.mutable_data<uint16_t>()[i] = formats::f32_to_f16(v);
        break;
      case DType::kBF16:
        t.mutable_data<uint16_t>()[i] = formats::f32_to_bf16(v);
        break;
      case DType::kF8E8M0:
        t.mutable_data<uint8_t>()[i] = random_byte(r, 115, 130);
        break;
      case DType::kF8E4M3:
        t.mutable_data<uint8_t>()[i] = static_cast<uint8_t>(random_byte(r, 0, 126) | (r.below(8) == 0 ? 128 : 0));
        break;
      case DType::kI8:
        t.mutable_data<int8_t>()[i] = static_cast<int8_t>(static_cast<int>(r.below(64)) - 32);
        break;
      default:
        t.mutable_data<uint8_t>()[i] = random_byte(r, 0, 63);
    }
  }
  return t;
}

inline PackedWeight random_weight(const WeightCase& c, uint64_t seed) {
  Random r(seed);
  const FormatInfo& info = format_info(c.format);
  PackedWeight w;
  w.format = c.format;
  w.rows = c.rows;
  w.cols = c.cols;
  w.group_size = c.group;
  if (info.kind == CodeKind::kDense) {
    const DType dtype = c.format == Format::kF32 ? DType::kF32 : c.format == Format::kF16 ? DType::kF16 : DType::kBF16;
    w.codes = random_values(r, dtype, c.rows, c.cols, 0.1);
    w.group_size = 0;
    return w;
  }
  const bool four_bit = info.code_bits == 4;
  const bool signed8 = !four_bit && info.kind != CodeKind::kE4M3 && c.format != Format::kQ5_1 &&
                       c.format != Format::kQ5_K && !c.zero_points;
  w.codes = Tensor::zeros(info.kind == CodeKind::kE4M3 ? DType::kF8E4M3
                          : signed8                    ? DType::kI8
                                                       : DType::kU8,
                          {c.rows, four_bit ? (c.cols + 1) / 2 : c.cols});
  auto* codes = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(w.codes.bytes().data()));
  int lo = 0, hi = 255;
  switch (c.format) {
    case Format::kQ5_0:
      lo = -16, hi = 15;
      break;
    case Format::kQ6_K:
      lo = -32, hi = 31;
      break;
    case Format::kQ5_1:
    case Format::kQ5_K:
      hi = 31;
      break;
    default:
      break;
  }
  for (int64_t i = 0; i < w.codes.numel(); ++i) {
    codes[i] = random_byte(r, lo, hi);
    if (info.kind == CodeKind::kE4M3 && (codes[i] & 0x7F) == 0x7F) codes[i] = 0x7E;
    if (four_bit && c.cols % 2 == 1 && (i + 1) % ((c.cols + 1) / 2) == 0) codes[i] &= 15;
    if (c.format == Format::kQ2_K || c.format == Format::kInt2) codes[i] &= 0x33;
    if (c.format == Format::kQ3_K || c.format == Format::kInt3) codes[i] &= 0x77;
  }
  const int64_t groups = w.groups(), supers = (c.cols + 255) / 256;
  DType scale = c.scale_dtype;
  bool mins = c.mins, super = false;
  switch (c.format) {
    case Format::kMxfp4:
    case Format::kMxfp8:
      scale = DType::kF8E8M0;
      break;
    case Format::kNvfp4:
      scale = DType::kF8E4M3;
      break;
    case Format::kQ4_1:
    case Format::kQ5_1:
      mins = true;
      [[fallthrough]];
    case Format::kQ8_0:
    case Format::kQ4_0:
    case Format::kQ5_0:
    case Format::kIQ4_NL:
    case Format::kQ1_0:
    case Format::kQ2_0:
      scale = DType::kF16;
      break;
    case Format::kQ2_K:
    case Format::kQ4_K:
    case Format::kQ5_K:
      mins = super = true;
      scale = DType::kU8;
      break;
    case Format::kQ3_K:
    case Format::kQ6_K:
      super = true;
      scale = DType::kI8;
      break;
    default:
      break;
  }
  w.scales = random_values(r, scale, c.rows, groups, 0.02);
  if (super) w.super_scales = random_values(r, DType::kF16, c.rows, supers, 0.01);
  if (mins) w.mins = random_values(r, super ? DType::kU8 : DType::kF16, c.rows, groups, 0.1);
  if (mins && super) w.super_mins = random_values(r, DType::kF16, c.rows, supers, 0.01);
  if (c.zero_points) {
    w.zero_points = Tensor::zeros(DType::kU8, {c.rows, groups});
    for (int64_t i = 0; i < c.rows * groups; ++i)
      w.zero_points.mutable_data<uint8_t>()[i] = random_byte(r, 0, four_bit ? 15 : 255);
  }
  w.tensor_scale = c.format == Format::kNvfp4 ? 0.37f : 1.0f;
  return w;
}

inline std::vector<float> random_input(size_t m, size_t k, uint64_t seed) {
  Random r(seed, 7);
  std::vector<float> x(m * k);
  for (float& v : x) v = r.normal() * (r.below(50) == 0 ? 20.0f : 1.0f);  // with outliers
  return x;
}

// x as the kernels see it: blocks of 32 (inside groups when their size is not a multiple of 16), largest magnitude
// mapped to `limit`. step_error[k] is half a quantisation step.
inline void quantise_acts(const float* x, int64_t cols, int64_t group, int limit, double* out, double* half_step) {
  const int64_t span = group >= cols || group % 16 == 0 ? cols : group;
  for (int64_t start = 0; start < cols; start += span) {
    const int64_t stop = std::min(cols, start + span);
    for (int64_t b = start; b < stop; b += 32) {
      const int64_t end = std::min(stop, b + 32);
      float max = 0;
      for (int64_t k = b; k < end; ++k) max = std::max(max, std::fabs(x[k]));
      const float scale = max / static_cast<float>(limit), inverse = static_cast<float>(limit) / max;
      for (int64_t k = b; k < end; ++k) {
        out[k] = max == 0 ? 0.0 : static_cast<double>(std::nearbyint(x[k] * inverse)) * static_cast<double>(scale);
        half_step[k] = 0.5001 * static_cast<double>(scale);
      }
    }
  }
}

inline std::string describe(const WeightCase& c) {
  return std::string(format_info(c.format).name) + " " + std::to_string(c.rows) + "x" + std::to_string(c.cols) + " g" +
         std::to_string(c.group) + " scales " + std::string(dtype_name(c.scale_dtype)) + (c.zero_points ? " zp" : "") +
         (c.mins ? " mins" : "");
}

// Every format, with group sizes and shapes around the block boundaries.
inline std::vector<WeightCase> quantised_cases() {
  using enum Format;
  std::vector<WeightCase> cases = {
      {kMxfp4, 33, 64, 32},   {kMxfp4, 16, 96, 32}, {kNvfp4, 35, 128, 16}, {kNvfp4, 5, 1040, 16}, {kQ8_0, 17, 96, 32},
      {kQ4_0, 40, 64, 32},    {kQ4_1, 33, 160, 32}, {kQ5_0, 19, 64, 32},   {kQ5_1, 19, 96, 32},   {kIQ4_NL, 20, 64, 32},
      {kQ2_K, 18, 512, 16},   {kQ3_K, 18, 512, 16}, {kQ4_K, 31, 768, 32},  {kQ5_K, 18, 512, 32},  {kQ6_K, 18, 1280, 16},
      {kQ1_0, 18, 256, 128},  {kQ2_0, 18, 192, 64}, {kMxfp8, 21, 96, 32},  {kFp8, 21, 100, 100},  {kFp8, 18, 640, 128},
      {kFp8, 18, 1037, 1037}, {kFp8, 3, 7, 3},
  };
  for (DType scale : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t group : {32, 64, 128, 16, 48, 20, 7}) {
      cases.push_back({kInt4, 18, 333, group, scale});
      cases.push_back({kNF4, 18, 333, group, scale});
      cases.push_back({kInt8, 18, 333, group, scale});
    }
  }
  for (int64_t group : {16, 64, 20}) {
    cases.push_back({group == 64 ? kInt3 : kInt2, 18, 333, group, DType::kBF16, group != 20});
    cases.push_back({group == 64 ? kInt4 : kInt8, 18, 333, group, DType::kF32, false, true});  // with minima
    cases.push_back({kNF4, 18, 333, group, DType::kBF16, false, true});
  }
  for (int64_t cols : {1, 2, 3, 15, 31, 32, 33, 65, 255, 1025}) {
    cases.push_back({kInt4, 3, cols, 32, DType::kBF16});
    cases.push_back({kInt4, 2, cols, 32, DType::kBF16, true});
    cases.push_back({kInt8, 17, cols, cols});
    cases.push_back({kInt8, 17, cols, 128, DType::kF16, true});
    cases.push_back({kNF4, 17, cols, 64});
    cases.push_back({kFp8, 1, cols, cols});
  }
  return cases;
}

}  // namespace fettle::kernels::test
