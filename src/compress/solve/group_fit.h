#pragma once

#include <span>

#include "compress/solve/code_space.h"

// Scale (and zero point) of one group of one row. x: the weights; importance: as long as x, or empty for ones.
namespace fettle::compress {

struct GroupFit {
  float scale = 1;     // effective, as stored
  uint8_t zero = 0;    // asymmetric integers: zero point
  uint8_t stored = 0;  // MX formats and NVFP4: scale code
  double error = 0;    // of the search that chose it
};

// Weighted error sum importance[i] |value - x[i]|^p on the grid (scale, zero). importance may be empty.
double group_error(const CodeSpace& space, std::span<const float> x, std::span<const float> importance, float scale,
                   float zero, double p);

// Shrinking the range [min, max] (asymmetric) or [-max, max] step by step. llm-compressor stops when five steps in a
// row help no group of the whole tensor, which large tensors never see: here every step is tried.
struct RangeSearch {
  int grid = 100;  // candidate i scales the range by 1 - i / grid
  int steps = 20;  // i = 0 .. steps - 1
  double p = 2.4;  // error exponent
};
inline constexpr RangeSearch kMseSearch{100, 20, 2.4}, kImatrixSearch{20, 20, 3.0}, kFullSearch{100, 61, 2.0};

// Range of a group as searched, before it becomes a scale. Ties: the first (widest) range.
struct GroupRange {
  float min = 0, max = 0;
  double error = 0;
};
GroupRange search_range(const CodeSpace& space, const FormatOptions& options, std::span<const float> x,
                        std::span<const float> importance, const RangeSearch& search);

// Integers, NF4 and FP8. kHessian tries the signed scale of symmetric integers (extreme weight = lowest code) as well.
GroupFit fit_float_scale(const CodeSpace& space, const FormatOptions& options, GridSearch search,
                         std::span<const float> x, std::span<const float> importance);

// kAbsMax's rule in F64 for code spaces with float scales, for searches that compare the outputs of rounded weights. A
// scale that will be stored as F32 stays unrounded: max / 7.5 puts the largest weight of every symmetric group on a
// rounding tie, and an F32 scale would move it to one side by noise.
struct ExactFit {
  double scale = 1, zero = 0;
  // x rounded on this grid.
  double round(const CodeSpace& space, double x) const {
    return static_cast<double>(space.value(space.encode(x / scale, zero), static_cast<float>(zero))) * scale;
  }
};
ExactFit exact_fit(const CodeSpace& space, const FormatOptions& options, std::span<const double> x);

// MXFP4 and MXFP8.
GroupFit fit_mx(const CodeSpace& space, const FormatOptions& options, GridSearch search, std::span<const float> x,
                std::span<const float> importance);

// NVFP4 with a fixed tensor scale: the absmax code, or the best of 29 codes around it (ties: the smaller code).
GroupFit fit_nvfp4(float tensor_scale, GridSearch search, std::span<const float> x, std::span<const float> importance);

}  // namespace fettle::compress
