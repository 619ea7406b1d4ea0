#pragma once

#include "compress/solve/gptq.h"

// Rounding against the error inherited from quantised inputs: min over Q on the grid of |X W^T - Xq Q^T|^2, with the
// statistics H = E[xq xq^T] and G = E[x xq^T] (row = float input, column = quantised input).
namespace fettle::compress {

struct QronosOptions {
  double alpha = 1e-3;  // damping lambda = alpha * sigma_max(H)
  bool act_order = true;
  bool auto_alpha = false;  // tries 1e-5 .. 1e-2, 1e-6 and `alpha`; keeps the least J(Q) = tr(Q H Q^T) - 2 tr(W G Q^T)
  int64_t block = 128;
  bool rtn_if_better = true;  // round to nearest where that has the smaller J
};

struct QronosReport {
  double j = 0, rtn_j = 0;  // J of the result and of rounding to nearest
  double float_bound = 0;   // J of the best unquantised weights W G (H + lambda I)^-1: no grid can do better
  double alpha = 0;         // in use
  double lambda = 0;
  double condition = 0;  // estimate for H + lambda I: (max U_ii / min U_ii)^2
};

struct QronosResult {
  RoundResult rounded;  // its report holds tr(dW H dW^T) relative to W, as for GPTQ
  QronosReport qronos;
};

// Qronos (arXiv 2505.11695, the efficient form): the first column is rounded for the mismatched objective, the others
// start from the ridge solution W (G + lambda I) (H + lambda I)^-1 given that column and are rounded as in GPTQ.
//   w: original weights [N, K]; start: working weights that rounding starts from (after MagR or clipping), or empty for
//   w. When G = H this is GPTQ with absolute damping lambda.
// A factorisation that fails raises lambda tenfold up to 3 times, then rounds to nearest with a note. Weights are
// also rounded to nearest, with a note, when that has the smaller J (rtn_if_better). Errors as gptq_round.
QronosResult qronos_round(MatView<const float> w, MatView<const float> h, MatView<const float> g, const Grid& grid,
                          const QronosOptions& options, ThreadPool& pool, MatView<const float> start = {});

struct GpfqOptions {
  bool act_order = true;
};

// GPFQ (greedy path following): q_t = Q((sum_{j<=t} w_j G[j,t] - sum_{j<t} q_j H[j,t]) / H[t,t]), no diffusion; inputs
// that are never active get the code of 0.
RoundResult gpfq_round(MatView<const float> w, MatView<const float> h, MatView<const float> g, const Grid& grid,
                       const GpfqOptions& options, ThreadPool& pool);

// J(Q) of codes on a grid.
double grid_objective(const Grid& grid, std::span<const uint8_t> codes, MatView<const float> w, MatView<const float> h,
                      MatView<const float> g, ThreadPool& pool);

}  // namespace fettle::compress
