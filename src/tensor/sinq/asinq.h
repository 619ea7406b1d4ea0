#pragma once

#include <span>
#include <vector>

#include "tensor/sinq/quantise.h"

// A-SINQ: SINQ whose column factors also follow the size of the activations (specs/04 section 2.7).
namespace fettle::sinq {

enum class AwqRule : uint8_t {
  kEffective,  // ours: a = (mean|x| * mu_col)^alpha, so alpha = 0 is SINQ and the result is never worse on the sample
  kUpstream,   // a = mean|x|^alpha / (mean|W|^(1-alpha) + 1e-4): balances twice, may lose to SINQ
};
enum class OutputLoss : uint8_t { kAbsolute, kSquared };  // mean |XW'^T - XW^T|, or its square

struct AwqSearch {
  AwqRule rule = AwqRule::kEffective;
  OutputLoss loss = OutputLoss::kAbsolute;
};

struct AwqResult {
  Quantised weight;              // col = mu_col / a
  std::vector<float> awq_scale;  // a [K]
  std::vector<double> losses;    // [20], alpha = i / 20
  double alpha = 0;
};

// w [N, K]; mean_abs [K]: mean of |x| over the calibration tokens; sample [T, K]: activation rows for the loss. The
// first of equal losses wins. Strips only (kUsage for square tiles). Cost: 20 roundings and 20 products T x K x N.
AwqResult asinq(MatView<const float> w, std::span<const float> mean_abs, MatView<const float> sample,
                const Options& options, const AwqSearch& search, ThreadPool& pool);

// The column factors mu_col / a of every alpha of the search, [20][K]: for weights that an ordinary format's encoder
// rounds and another loss judges (compress/methods/asinq.h). The first of kEffective are SINQ's up to a common factor.
std::vector<std::vector<float>> asinq_factors(MatView<const float> w, std::span<const float> mean_abs,
                                              std::span<const float> mu_col, AwqRule rule);

}  // namespace fettle::sinq
