#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

// SINQ's balancing of a matrix by one factor per row and one per column (arXiv 2509.22944; constants and order of
// operations from huawei-csl/SINQ 6930f78, sinq/sinkhorn.py). Deviations are unbiased (n - 1), sums are F64.
namespace fettle::sinq {

struct SinkhornOptions {
  int order = 16;  // iterations; the last update is never used, so 1 and less give factors of 1
  // Ours, off for upstream's numbers: leave rows and columns of zeros out of the statistics (one of them makes the
  // imbalance huge and ends the search at once) and bring tiles whose deviations reach the absolute limits 1e-3 or 1e3
  // into range by a power of two.
  bool robust = true;
};

// tile = balanced * row * col. imbalance: largest over smallest deviation of any row or column of the balanced tile.
struct SinkhornFactors {
  std::vector<float> col, row;  // in [exp(-0.3), exp(10)]
  double imbalance = 1;
};

// Best factors of `order` rounds of simultaneous updates in the log domain. A tile with fewer than two rows or columns
// has no deviations and keeps factors of 1. Finite input. Cost: about 10 flop per element and round.
SinkhornFactors sinkhorn(MatView<const float> tile, const SinkhornOptions& options = {});

// Largest over smallest (at least 1e-12) deviation of any row or column.
double imbalance(MatView<const float> tile, bool robust = false);

// Column factors of a matrix cut into vertical tiles of `tile` columns (the last one may be narrower): mu_col, [cols].
std::vector<float> column_factors(MatView<const float> w, int64_t tile, const SinkhornOptions& options,
                                  ThreadPool* pool);

// E[(w - mean)^4] / max(E[(w - mean)^2], 1e-6)^2 over the whole matrix: upstream leaves SINQ out above 5.
double kurtosis(MatView<const float> w);

}  // namespace fettle::sinq
