#include "compress/solve/fused_fp4.h"

#include <algorithm>
#include <cmath>

#include "tensor/formats/codecs.h"
#include "tensor/formats/encode_common.h"

namespace fettle::compress {
namespace {

constexpr double kQuestFactor = 2.92247856 / 6.0;  // the best clip of a normal distribution by E2M1, in deviations
constexpr double kTiny = 1e-8;

// Blocks of k columns times the rotation.
std::vector<float> rotated(MatView<const float> x, MatView<const float> rotation) {
  const size_t k = rotation.rows;
  std::vector<float> y(x.rows * x.cols);
  std::vector<double> sum(k);
  for (size_t r = 0; r < x.rows; ++r)
    for (size_t b = 0; b < x.cols; b += k) {
      std::fill(sum.begin(), sum.end(), 0.0);
      for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j)
          sum[j] += static_cast<double>(x.row(r)[b + i]) * static_cast<double>(rotation.row(i)[j]);
      for (size_t j = 0; j < k; ++j) y[r * x.cols + b + j] = static_cast<float>(sum[j]);
    }
  return y;
}

double deviation(std::span<const float> x) {
  double mean = 0, square = 0;
  for (const float v : x) mean += static_cast<double>(v) / static_cast<double>(x.size());
  for (const float v : x) square += std::pow(static_cast<double>(v) - mean, 2);
  return std::sqrt(square / static_cast<double>(x.size()));
}

uint8_t power_of_two_code(double x) {
  return static_cast<uint8_t>(std::clamp(std::floor(std::log2(x)) + 127, 0.0, 254.0));
}

// Scale code of a group, and the factor in front of E2M1 rounding.
struct GroupScale {
  uint8_t code;
  float multiplier;
};
GroupScale scale_of(std::span<const float> x, FusedScale rule, float global) {
  const float a = formats::abs_max(x);
  if (rule == FusedScale::kNvAbsMax) {
    const uint8_t code = formats::f32_to_e4m3(global * a / formats::kE2M1Max);
    const float s = formats::e4m3_to_f32(code);
    return {code, s == 0 ? 0.0f : global / s};
  }
  const bool quest = rule == FusedScale::kMxQuest;
  const uint8_t code = power_of_two_code(quest ? kQuestFactor * deviation(x) + kTiny : static_cast<double>(a) + kTiny);
  return {code, (quest ? 1.0f : 3.0f) / formats::e8m0_to_f32(code)};
}

}  // namespace

float FusedFp4::value(int64_t row, int64_t col) const {
  const auto code = matrix.codes[static_cast<size_t>(row * matrix.cols + col)];
  const uint8_t scale = matrix.scales[static_cast<size_t>((row * matrix.cols + col) / matrix.group())];
  const float v = formats::e2m1_to_f32(code);
  if (matrix.format == Format::kNvfp4) return v * formats::e4m3_to_f32(scale) / matrix.global_scale;
  return v * formats::e8m0_to_f32(scale) * factor;
}

FusedFp4 fused_quantise(MatView<const float> x, MatView<const float> rotation, FusedScale rule, float global_scale) {
  const bool nv = rule == FusedScale::kNvAbsMax;
  const size_t group = nv ? 16 : 32, k = rotation.rows;
  if (k == 0 || rotation.cols != k || k % group != 0 || x.cols % k != 0)
    fail(ErrorCode::kInput,
         "fused rounding: rotation {} x {} of {} columns: expected a square one in {}s that divides them",
         rotation.rows, rotation.cols, x.cols, group);
  if (!(global_scale > 0) || !std::isfinite(global_scale))
    fail(ErrorCode::kUsage, "fused rounding: global scale {}: expected a positive number", global_scale);
  FusedFp4 out;
  out.matrix = {.format = nv ? Format::kNvfp4 : Format::kMxfp4,
                .rows = static_cast<int64_t>(x.rows),
                .cols = static_cast<int64_t>(x.cols),
                .codes = std::vector<uint8_t>(x.rows * x.cols),
                .scales = {},
                .global_scale = nv ? global_scale : 1.0f};
  if (rule == FusedScale::kMxAbsMax) out.factor = 1.0f / 3.0f;
  if (!nv) out.clip_mask.resize(x.rows * x.cols / 8);
  const std::vector<float> y = rotated(x, rotation);
  for (size_t b = 0; b < y.size(); b += group) {
    const std::span<const float> values(y.data() + b, group);
    const GroupScale s = scale_of(values, rule, global_scale);
    out.matrix.scales.push_back(s.code);
    for (size_t i = 0; i < group; ++i) {
      const float v = values[i] * s.multiplier;
      out.matrix.codes[b + i] = formats::f32_to_e2m1(v);
      if (!nv && std::fabs(v) <= formats::kE2M1Max)
        out.clip_mask[(b + i) / 8] |= static_cast<uint8_t>(1u << (b + i) % 8);
    }
  }
  return out;
}

}  // namespace fettle::compress
