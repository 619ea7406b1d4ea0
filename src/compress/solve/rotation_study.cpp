#include "compress/solve/rotation_study.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "compress/solve/code_space.h"
#include "tensor/formats/encode_common.h"
#include "tensor/formats/mx.h"

namespace fettle::compress {
namespace {

constexpr std::array<int64_t, 9> kGroups = {4, 8, 16, 32, 64, 128, 256, 512, 1024};
constexpr size_t kChunk = 1 << 14;  // samples of a task; a multiple of the largest group

enum class ScaleRule : uint8_t { kExact, kE4M3, kMxFloor, kMxEven, kMxCeil, kMxFpQuant, kMxIntCeil };

struct StudyFormat {
  std::string_view name;
  bool integer;
  ScaleRule rule;
  float largest() const { return integer ? 7.0f : formats::kE2M1Max; }
};
constexpr StudyFormat kFormats[] = {
    {"nvfp4", false, ScaleRule::kE4M3},          {"e2m1_fp32scale", false, ScaleRule::kExact},
    {"mxfp4_floor", false, ScaleRule::kMxFloor}, {"mxfp4_even", false, ScaleRule::kMxEven},
    {"mxfp4_ceil", false, ScaleRule::kMxCeil},   {"mxfp4_fpquant", false, ScaleRule::kMxFpQuant},
    {"int4_fp32scale", true, ScaleRule::kExact}, {"nvint4", true, ScaleRule::kE4M3},
    {"mxint4", true, ScaleRule::kMxIntCeil},
};
constexpr auto kNames = [] {
  std::array<std::string_view, std::size(kFormats)> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kFormats[i].name;
  return names;
}();

// a: largest magnitude of the group; tensor: that of all samples.
float scale_of(const StudyFormat& f, float a, float tensor) {
  const auto mx = [&](MxScale rule) { return formats::e8m0_to_f32(formats::mx_scale_code(a, rule, formats::kMxE2M1)); };
  switch (f.rule) {
    case ScaleRule::kExact:
      return a / f.largest();
    case ScaleRule::kE4M3: {
      const float g = formats::kE4M3Max * f.largest() / tensor;
      return formats::e4m3_to_f32(std::max<uint8_t>(1, formats::f32_to_e4m3(g * a / f.largest()))) / g;
    }
    case ScaleRule::kMxFloor:
      return mx(MxScale::kFloor);
    case ScaleRule::kMxEven:
      return mx(MxScale::kEven);
    case ScaleRule::kMxCeil:
      return mx(MxScale::kCeil);
    case ScaleRule::kMxFpQuant:
      return mx(MxScale::kFloor) * (4.0f / 3.0f);
    case ScaleRule::kMxIntCeil:
      break;
  }
  return std::exp2(std::ceil(std::log2(a / f.largest())));
}

void round_group(const StudyFormat& f, std::span<const float> x, float tensor, std::span<float> out) {
  const float a = formats::abs_max(x);
  if (a == 0) {
    std::fill(out.begin(), out.end(), 0.0f);
    return;
  }
  const float s = scale_of(f, a, tensor), inverse = 1 / s;
  for (size_t i = 0; i < x.size(); ++i)
    out[i] = s * (f.integer ? static_cast<float>(round_half_even(std::clamp(x[i] * inverse, -8.0f, 7.0f)))
                            : formats::e2m1_to_f32(formats::f32_to_e2m1(x[i] * inverse)));
}

// x H / sqrt(n) with Sylvester's H, its own inverse. In place; n a power of two.
void hadamard(std::span<float> x) {
  for (size_t half = 1; half < x.size(); half *= 2)
    for (size_t b = 0; b < x.size(); b += 2 * half)
      for (size_t i = b; i < b + half; ++i) {
        const float u = x[i], v = x[i + half];
        x[i] = u + v;
        x[i + half] = u - v;
      }
  const float factor = 1 / std::sqrt(static_cast<float>(x.size()));
  for (float& v : x) v *= factor;
}

// Sums over the groups of a chunk.
RotationError group_error(std::span<const float> x, std::span<const float> y) {
  double lost = 0, whole = 0;
  size_t top = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(y[i]) - static_cast<double>(x[i]);
    lost += d * d;
    whole += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    if (std::fabs(x[i]) > std::fabs(x[top])) top = i;
  }
  if (whole == 0) return {};
  const double d = (static_cast<double>(y[top]) - static_cast<double>(x[top])) / static_cast<double>(x[top]);
  return {lost / whole, d * d};
}

// One kind of numbers: the mean error of every format in groups of `group`.
std::vector<RotationError> column(std::span<const float> x, size_t group, bool rotate, float largest,
                                  ThreadPool& pool) {
  std::vector<float> rotated(rotate ? x.size() : 0);
  if (rotate)
    pool.parallel_chunks(x.size(), kChunk, [&](size_t begin, size_t end) {
      std::copy(x.begin() + begin, x.begin() + end, rotated.begin() + begin);
      for (size_t g = begin; g < end; g += group) hadamard(std::span(rotated).subspan(g, group));
    });
  const std::span<const float> rounded = rotate ? std::span<const float>(rotated) : x;
  const float tensor = largest > 0 ? largest : formats::abs_max(rounded);
  constexpr size_t kFormatCount = std::size(kFormats);
  std::vector<RotationError> part((x.size() + kChunk - 1) / kChunk * kFormatCount), out(kFormatCount);
  pool.parallel_chunks(x.size(), kChunk, [&](size_t begin, size_t end) {
    std::vector<float> y(group);
    for (size_t f = 0; f < kFormatCount; ++f)
      for (size_t g = begin; g < end; g += group) {
        round_group(kFormats[f], rounded.subspan(g, group), tensor, y);
        if (rotate) hadamard(y);
        const RotationError e = group_error(x.subspan(g, group), y);
        RotationError& sum = part[begin / kChunk * kFormatCount + f];
        sum.rel += e.rel;
        sum.top += e.top;
      }
  });
  const auto groups = static_cast<double>(x.size() / group);
  for (size_t i = 0; i < part.size(); ++i) {
    out[i % kFormatCount].rel += part[i].rel / groups;
    out[i % kFormatCount].top += part[i].top / groups;
  }
  return out;
}

std::vector<float> laplace_numbers(size_t n, uint64_t seed) {
  Random random(seed, 0);
  std::vector<float> x(n);
  for (float& v : x) {
    // Density exp(-sqrt(2) |x|) / sqrt(2): variance 1. 1 - u lies in (0, 1].
    const double magnitude = -std::log(1 - random.uniform()) / std::sqrt(2.0);
    v = static_cast<float>((random.bits() & 1u) != 0 ? magnitude : -magnitude);
  }
  return x;
}

std::vector<float> normal_numbers(size_t n, uint64_t seed) {
  Random random(seed, 1);
  std::vector<float> x(n);
  for (float& v : x) v = random.normal();
  return x;
}

}  // namespace

std::span<const int64_t> rotation_study_groups() { return kGroups; }
std::span<const std::string_view> rotation_study_formats() { return kNames; }

std::vector<RotationTable> rotation_study(const RotationStudyOptions& options, ThreadPool& pool) {
  if (options.samples < kGroups.back() || options.samples % kGroups.back() != 0)
    fail(ErrorCode::kUsage, "rotation study: {} samples: expected a positive multiple of {}", options.samples,
         kGroups.back());
  const auto n = static_cast<size_t>(options.samples);
  const std::vector<float> laplace = laplace_numbers(n, options.seed), normal = normal_numbers(n, options.seed);
  std::vector<RotationTable> tables;
  for (const std::string_view name : kNames) tables.push_back({name, {}});
  for (const int64_t size : kGroups) {
    const auto g = static_cast<size_t>(size);
    const auto a = column(laplace, g, false, options.largest, pool),
               b = column(laplace, g, true, options.largest, pool), c = column(normal, g, false, options.largest, pool);
    for (size_t f = 0; f < tables.size(); ++f) tables[f].rows.push_back({size, a[f], b[f], c[f]});
  }
  return tables;
}

}  // namespace fettle::compress
