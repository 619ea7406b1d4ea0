#pragma once

#include <cstdint>
#include <span>

// Scale searches of the K-quants (ggml-org/ggml d99724f2, ggml-quants.c: the rules, constants and order of F32
// operations, so that results are equal bit for bit). Sums run in element order.
namespace fettle::formats {

enum class FitError : uint8_t { kSquared, kAbsolute };

// x ~ scale * code - min, code in [0, max_code], min >= 0.
struct AffineFit {
  float scale = 0, min = 0;
};
struct AffineSearch {
  int max_code;
  float first, step;  // trial inverse scales (max_code + first + step * i) / (max - min), i = 0..steps
  int steps;
  FitError error;
};
// Weighted search for the affine map of one sub-block; codes: [x.size()], at most 32 elements.
AffineFit fit_affine(std::span<const float> x, std::span<const float> weights, const AffineSearch& search,
                     uint8_t* codes);

// x ~ scale * (code - levels), code in [0, 2 * levels), weights x^2: best of 19 trial scales around -levels / max.
float fit_symmetric_search(std::span<const float> x, int levels, uint8_t* codes);

// The same model, improved code by code (at most 5 rounds).
float fit_symmetric_descent(std::span<const float> x, int levels, uint8_t* codes);

}  // namespace fettle::formats
