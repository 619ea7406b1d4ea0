#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace fettle::compress {

struct MagrOptions {
  double alpha = 0.01;  // strength, relative as below
  int steps = 200;
};

struct MagrResult {
  std::vector<float> weights;   // [N, K]
  double eta = 0, penalty = 0;  // 1 / sigma_max(H), alpha / (eta |H|_1)
  double output_change = 0;     // tr(dW H dW^T) / tr(W H W^T)
};

// MagR (arXiv 2406.00800): lowers max |w| of every row at little change of the outputs, before rounding at 2 or 3 bits,
// by proximal gradient steps on tr((V - W) H (V - W)^T) / 2 + a |V|_inf, a = alpha / (eta |H|_1), |H|_1 the largest
// column sum of magnitudes:
//   V <- V - eta (V - W) H ;  V <- V - a * projection of V / a onto the L1 ball of radius 1, row by row.
// Quantise the result with w as the reference weights (qronos_round's `start`). Errors as gptq_round.
MagrResult magr(MatView<const float> w, MatView<const float> h, const MagrOptions& options, ThreadPool& pool);

}  // namespace fettle::compress
