#include "compress/solve/observers.h"

#include <algorithm>
#include <cmath>

#include "compress/solve/code_space.h"
#include "tensor/formats/encode_common.h"
#include "tensor/formats/mx.h"
#include "tensor/formats/nvfp4.h"

namespace fettle::compress {
namespace {

constexpr double kExponent = 2.4;
constexpr int kCandidates = 100;
constexpr float kMxFactor = 4.0f / 3.0f;  // on the floor rule, 2^(floor(log2 a) - 2)

bool is_integer(FpQuantFormat f) { return f == FpQuantFormat::kInt4 || f == FpQuantFormat::kInt4Asymmetric; }

float grid_round(FpQuantFormat f, float x, float zero) {
  if (f == FpQuantFormat::kInt4) return static_cast<float>(round_half_even(std::clamp(x, -8.0f, 7.0f)));
  if (f == FpQuantFormat::kInt4Asymmetric)
    return static_cast<float>(round_half_even(std::clamp(x + zero, 0.0f, 15.0f)));
  return formats::e2m1_to_f32(formats::f32_to_e2m1(x));
}

// The scale in the type that the format stores.
float rounded_scale(FpQuantFormat f, float s, float global) {
  if (f == FpQuantFormat::kNvfp4)
    return formats::e4m3_to_f32(std::max<uint8_t>(1, formats::f32_to_e4m3(s * global))) / global;
  if (f == FpQuantFormat::kMxfp4) return std::exp2(std::floor(std::log2(s * formats::kE2M1Max)) - 2) * kMxFactor;
  return s;
}

double error_of(FpQuantFormat f, std::span<const float> x, float s, float zero) {
  double e = 0;
  for (const float v : x) {
    const double d = std::fabs(static_cast<double>((grid_round(f, v / s, zero) - zero) * s) - v);
    e += std::pow(d, kExponent);
  }
  return e;
}

}  // namespace

FpQuantResult fpquant_quantise(MatView<const float> w, FpQuantFormat f, Observer observer, int64_t group) {
  const auto step = static_cast<size_t>(formats::resolve_group("fp-quant", group, group, w.cols, false));
  const size_t groups = w.cols / step;
  const bool asymmetric = f == FpQuantFormat::kInt4Asymmetric;
  FpQuantResult out;
  out.scales.resize(w.rows * groups);
  if (asymmetric) out.zeros.resize(w.rows * groups);
  out.q.resize(w.rows * w.cols);
  out.dequant.resize(out.q.size());
  const float global = formats::nvfp4_global_scale(formats::matrix_abs_max(w, nullptr));
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t g = 0; g < groups; ++g) {
      const std::span<const float> x(w.row(r) + g * step, step);
      const auto [low, high] = std::minmax_element(x.begin(), x.end());
      const float a = std::max(-*low, *high);
      float base = a / (is_integer(f) ? 7.5f : formats::kE2M1Max), zero = 0;
      if (asymmetric) {
        base = (*high - *low) / 15.0f;
        zero = base > 0 ? static_cast<float>(round_half_even(-*low / base)) : 0.0f;
      }
      float s = base;
      if (observer == Observer::kMse) {
        double best = std::numeric_limits<double>::infinity();
        for (int i = 0; i < kCandidates; ++i) {
          const float candidate = base * static_cast<float>(1.0 - 0.8 * i / kCandidates);
          const double e = error_of(f, x, candidate > 0 ? candidate : 1.0f, zero);
          if (e < best) {
            best = e;
            s = candidate;
          }
        }
      }
      s = s > 0 ? rounded_scale(f, s, global) : 1.0f;
      out.scales[r * groups + g] = s;
      if (asymmetric) out.zeros[r * groups + g] = zero;
      for (size_t j = 0; j < step; ++j) {
        const size_t i = r * w.cols + g * step + j;
        out.q[i] = grid_round(f, x[j] / s, zero);
        out.dequant[i] = (out.q[i] - zero) * s;
      }
    }
  return out;
}

std::vector<uint8_t> to_blocked(std::span<const uint8_t> scales, int64_t rows, int64_t cols) {
  if (rows < 0 || cols < 0 || rows % 128 != 0 || cols % 4 != 0 || scales.size() != static_cast<size_t>(rows * cols))
    fail(ErrorCode::kInput, "blocked scales: {} numbers as {} x {}: expected rows in 128s and columns in 4s",
         scales.size(), rows, cols);
  std::vector<uint8_t> out(scales.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t to = (r / 128 * (cols / 4) + c / 4) * 512 + r % 32 * 16 + r % 128 / 32 * 4 + c % 4;
      out[static_cast<size_t>(to)] = scales[static_cast<size_t>(r * cols + c)];
    }
  return out;
}

Fp4Matrix quantise_fp4(MatView<const float> x, Format format, float global_scale) {
  if (format != Format::kNvfp4 && format != Format::kMxfp4)
    fail(ErrorCode::kUsage, "{}: expected nvfp4 or mxfp4", format_info(format).name);
  FormatOptions o;
  o.fixed_global_scale = global_scale;
  const PackedWeight p = format_info(format).encode(x, o);
  Fp4Matrix out{.format = format, .rows = p.rows, .cols = p.cols, .codes = {}, .scales = {}};
  const auto *pairs = p.codes.data<uint8_t>(), *scales = p.scales.data<uint8_t>();
  for (size_t i = 0; i < x.rows * x.cols; ++i) out.codes.push_back((pairs[i / 2] >> (4 * (i % 2))) & 15);
  out.scales.assign(scales, scales + p.scales.numel());
  out.global_scale = format == Format::kMxfp4 ? 1.0f : global_scale != 0 ? global_scale : 1.0f / p.tensor_scale;
  return out;
}

namespace {

void check_operands(const Fp4Matrix& x, const Fp4Matrix& w) {
  if (x.format != w.format || x.cols != w.cols)
    fail(ErrorCode::kInput, "4-bit product: {} x {} and {} x {} in {} and {}", x.rows, x.cols, w.rows, w.cols,
         format_info(x.format).name, format_info(w.format).name);
}

float scale_of(const Fp4Matrix& m, int64_t row, int64_t group) {
  const uint8_t code = m.scales[static_cast<size_t>(row * (m.cols / m.group()) + group)];
  return m.format == Format::kNvfp4 ? formats::e4m3_to_f32(code) : formats::e8m0_to_f32(code);
}

}  // namespace

std::vector<int16_t> group_dots(const Fp4Matrix& x, const Fp4Matrix& w) {
  check_operands(x, w);
  std::vector<int16_t> out;
  for (int64_t m = 0; m < x.rows; ++m)
    for (int64_t n = 0; n < w.rows; ++n)
      for (int64_t k = 0; k < x.cols; k += x.group()) {
        int dot = 0;
        for (int64_t i = k; i < k + x.group(); ++i) {
          const float a = formats::e2m1_to_f32(x.codes[static_cast<size_t>(m * x.cols + i)]);
          const float b = formats::e2m1_to_f32(w.codes[static_cast<size_t>(n * x.cols + i)]);
          dot += static_cast<int>(2 * a) * static_cast<int>(2 * b);
        }
        out.push_back(static_cast<int16_t>(dot));
      }
  return out;
}

std::vector<float> fp4_matmul(const Fp4Matrix& x, const Fp4Matrix& w) {
  const std::vector<int16_t> dots = group_dots(x, w);
  const int64_t groups = x.cols / x.group();
  const float factor = 0.25f / x.global_scale / w.global_scale;
  std::vector<float> y(static_cast<size_t>(x.rows * w.rows));
  for (int64_t m = 0; m < x.rows; ++m)
    for (int64_t n = 0; n < w.rows; ++n) {
      float sum = 0;
      for (int64_t g = 0; g < groups; ++g)
        sum += scale_of(x, m, g) * scale_of(w, n, g) * dots[static_cast<size_t>((m * w.rows + n) * groups + g)];
      y[static_cast<size_t>(m * w.rows + n)] = sum * factor;
    }
  return y;
}

}  // namespace fettle::compress
