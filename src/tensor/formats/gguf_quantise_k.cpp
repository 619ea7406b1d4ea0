// ggml's reference quantisers for the K-quants: fit every sub-block, quantise the scales (and minima) against their
// maxima, then requantise the elements with the scales as stored.
#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/formats/codecs.h"
#include "tensor/formats/gguf_codec.h"
#include "tensor/formats/scale_fit.h"
#include "tensor/formats/scale_store.h"
#include "tensor/formats/swar.h"

namespace fettle::formats {
namespace {

constexpr size_t kSuper = 256;
constexpr float kNegligible = 1e-15f;
using Codes = std::array<uint8_t, kSuper>;

int rounded(float x, int low, int high) {
  return round_even(std::clamp(x, static_cast<float>(low), static_cast<float>(high)));
}

uint16_t f16_bits(float x) { return block_scale_f16(x); }

// x ~ d * scale[s] * code - dmin * min[s] over runs of 256 / kSubBlocks, scales and minima in [0, kTop].
template <size_t kSubBlocks>
struct AffineSuper {
  uint16_t d = 0, dmin = 0;
  std::array<uint8_t, kSubBlocks> scales{}, mins{};
  Codes codes{};
};

// Quantises non-negative values against their maximum; returns the F16 step.
template <size_t n>
uint16_t quantise_parts(const std::array<float, n>& values, int top, std::array<uint8_t, n>* out) {
  const float max = std::max(0.0f, *std::max_element(values.begin(), values.end()));
  const float inverse = max > 0 ? static_cast<float>(top) / max : 0.0f;
  for (size_t s = 0; s < n; ++s) (*out)[s] = static_cast<uint8_t>(rounded(inverse * values[s], 0, top));
  return f16_bits(max / static_cast<float>(top));
}

template <size_t kSubBlocks, typename Weights>
AffineSuper<kSubBlocks> quantise_affine(const float* x, const AffineSearch& search, int top, const Weights& weights) {
  constexpr size_t kRun = kSuper / kSubBlocks;
  AffineSuper<kSubBlocks> out;
  std::array<float, kSubBlocks> scales, mins;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const std::span<const float> run(x + s * kRun, kRun);
    std::array<float, kRun> w;
    weights(run, w.data());
    const AffineFit fit = fit_affine(run, w, search, out.codes.data() + s * kRun);
    scales[s] = fit.scale;
    mins[s] = fit.min;
  }
  out.d = quantise_parts(scales, top, &out.scales);
  out.dmin = quantise_parts(mins, top, &out.mins);
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const float d = f16_to_f32(out.d) * static_cast<float>(out.scales[s]);
    if (d == 0) continue;  // codes do not matter; the search's stay
    const float m = f16_to_f32(out.dmin) * static_cast<float>(out.mins[s]);
    for (size_t i = s * kRun; i < (s + 1) * kRun; ++i)
      out.codes[i] = static_cast<uint8_t>(rounded((x[i] + m) / d, 0, search.max_code));
  }
  return out;
}

// Weights of Q4_K and Q5_K: root mean square plus magnitude.
void rms_weights(std::span<const float> x, float* w) {
  float sum = 0;
  for (const float v : x) sum += v * v;
  const float rms = std::sqrt(sum / static_cast<float>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) w[i] = rms + std::fabs(x[i]);
}

void magnitude_weights(std::span<const float> x, float* w) {
  for (size_t i = 0; i < x.size(); ++i) w[i] = std::fabs(x[i]);
}

// Symmetric super-block: x ~ d * scale[s] * (code - levels), runs of 16.
struct SymmetricSuper {
  uint16_t d = 0;
  std::array<int8_t, 16> scales{};
  Codes codes{};
};

// scale_top: the scale of largest magnitude maps to -scale_top.
template <typename Fit>
SymmetricSuper quantise_symmetric(const float* x, int levels, int scale_top, const Fit& fit) {
  SymmetricSuper out;
  std::array<float, 16> scales;
  float max = 0;
  for (size_t s = 0; s < 16; ++s) {
    scales[s] = fit(std::span(x + 16 * s, 16), levels, out.codes.data() + 16 * s);
    if (std::fabs(scales[s]) > std::fabs(max)) max = scales[s];
  }
  if (std::fabs(max) < kNegligible) {
    out.codes.fill(0);
    return out;
  }
  const float inverse = -static_cast<float>(scale_top) / max;
  out.d = f16_bits(1 / inverse);
  for (size_t s = 0; s < 16; ++s) {
    out.scales[s] = static_cast<int8_t>(rounded(inverse * scales[s], -scale_top, scale_top - 1));
    const float d = f16_to_f32(out.d) * static_cast<float>(out.scales[s]);
    if (d == 0) continue;
    for (size_t i = 16 * s; i < 16 * (s + 1); ++i)
      out.codes[i] = static_cast<uint8_t>(rounded(x[i] / d, -levels, levels - 1) + levels);
  }
  return out;
}

// Canonical pairs of 256 codes, the input of the packers.
std::array<uint8_t, 128> pairs_of(const Codes& codes) {
  std::array<uint8_t, 128> pairs;
  for (size_t j = 0; j < 128; ++j) pairs[j] = static_cast<uint8_t>(codes[2 * j] | (codes[2 * j + 1] << 4));
  return pairs;
}

GgufRowIn row_of(const uint8_t* codes, const void* scales, const uint8_t* mins, const uint16_t* d,
                 const uint16_t* dmin) {
  return {codes, static_cast<const uint8_t*>(scales), mins, reinterpret_cast<const uint8_t*>(d),
          reinterpret_cast<const uint8_t*>(dmin)};
}

}  // namespace

void quantise_q2_k(const float* x, uint8_t* block) {
  const AffineSearch search{.max_code = 3, .first = -0.5f, .step = 0.1f, .steps = 15, .error = FitError::kAbsolute};
  const auto s = quantise_affine<16>(x, search, 15, magnitude_weights);
  pack_q2_k(row_of(pairs_of(s.codes).data(), s.scales.data(), s.mins.data(), &s.d, &s.dmin), 1, block);
}

void quantise_q4_k(const float* x, uint8_t* block) {
  const AffineSearch search{.max_code = 15, .first = -1.0f, .step = 0.1f, .steps = 20, .error = FitError::kSquared};
  const auto s = quantise_affine<8>(x, search, 63, rms_weights);
  pack_q4_k(row_of(pairs_of(s.codes).data(), s.scales.data(), s.mins.data(), &s.d, &s.dmin), 1, block);
}

void quantise_q5_k(const float* x, uint8_t* block) {
  const AffineSearch search{.max_code = 31, .first = -0.5f, .step = 0.1f, .steps = 15, .error = FitError::kSquared};
  const auto s = quantise_affine<8>(x, search, 63, rms_weights);
  pack_q5_k(row_of(s.codes.data(), s.scales.data(), s.mins.data(), &s.d, &s.dmin), 1, block);
}

void quantise_q3_k(const float* x, uint8_t* block) {
  const SymmetricSuper s = quantise_symmetric(x, 4, 32, fit_symmetric_descent);
  pack_q3_k(row_of(pairs_of(s.codes).data(), s.scales.data(), nullptr, &s.d, nullptr), 1, block);
}

void quantise_q6_k(const float* x, uint8_t* block) {
  const SymmetricSuper s = quantise_symmetric(x, 32, 128, fit_symmetric_search);
  std::array<uint8_t, kSuper> signed_codes;
  for (size_t i = 0; i < kSuper; ++i) signed_codes[i] = static_cast<uint8_t>(s.codes[i] - 32);
  pack_q6_k(row_of(signed_codes.data(), s.scales.data(), nullptr, &s.d, nullptr), 1, block);
}

}  // namespace fettle::formats
