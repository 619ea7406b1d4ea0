#pragma once

#include <vector>

#include "compress/solve/grid.h"

namespace fettle::compress {

struct ScaleEstimation {
  int steps = 5;        // rectifications, each from the codes of the scale so far
  int restarts = 5;     // more, from the codes of (1 - k / 20) of the first scale, k = 0 .. restarts - 1
  size_t samples = 32;  // of those in `means`, evenly spread, that errors are measured on
};

struct ScaleEstimates {
  Grid grid;                         // zero points of the first grid, scales rounded to the stored type
  std::vector<double> first_scales;  // [rows, groups], as the following two
  std::vector<double> first_errors,
      errors;  // mean over samples of the squared error of the group's partial dot product
};

// Scale estimation of NNCF (openvinotoolkit/nncf ef8e1dbd, weight_compression/scale_estimation.py), integer formats.
//   w: [N, K]; means: [S, K], every calibration sample's mean over its tokens.
// First grid: asymmetric the plain range of the group, which need not contain 0, with the zero point clamped to the
// codes; symmetric the signed scale that makes the largest weight the lowest code. A rectified scale is
//   s = sum_j imp_j |w_j| / |code_j - z|,  imp_j = max over samples of |means_j|, 0 where the first code is zero, sum 1
// with the sign of the first, and replaces the best so far where the error on the means does not grow. F64.
// Throws kUsage for other formats, kInput for shapes that disagree or no sample. Same result for any number of threads.
ScaleEstimates estimate_scales(MatView<const float> w, MatView<const float> means, Format format,
                               const FormatOptions& options, ThreadPool& pool, int bits = 0,
                               const ScaleEstimation& how = {});

}  // namespace fettle::compress
