#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.h"

// Which layers deserve more bits.
namespace fettle::compress {

// Scores of NNCF's mixed precision: the higher, the more a layer needs the backup precision.
struct LayerScores {
  // 1 / (e8 + 2^-23), e8 = max over rows of the mean squared error of 8-bit asymmetric rounding of rows. NNCF adds the
  // F32 epsilon, so all layers of small weights score alike.
  double weight_quantisation = 0;
  double mean_variance = 0;   // times the mean over channels of the input variance
  double max_variance = 0;    // times the largest channel variance
  double mean_magnitude = 0;  // times the mean over channels of the input's absmax
  double rounding_norm = 0;   // |W - Q8(W)|_F
  double input_energy = 0;    // tr(E[x x^T])
  double hawq() const { return rounding_norm * input_energy; }
};
LayerScores layer_scores(MatView<const float> w, MatView<const float> x);  // x: [T, K] inputs

// One way to store a layer, and what it costs.
struct BitChoice {
  double bits = 0;   // file bits, in all
  double error = 0;  // any additive loss: J of qronos.h, or the block-output error
};
struct BitLayer {
  std::string name;
  int64_t weights = 0;
  std::vector<BitChoice> choices;  // the same formats in the same order for all members of a fused group
  int64_t fused = -1;              // layers with one number >= 0 take the same choice (q, k, v; gate, up)
};
struct BitAllocation {
  std::vector<size_t> choice;  // per layer
  double bits_per_weight = 0;  // reached
  double error = 0;            // sum
  double price = 0;            // error per bit at which choices tip
};

// Least sum of errors with total bits <= target_bpw * total weights: Lagrangian bisection over fused groups, which
// finds the lower convex hull of the trade-off, then spends what is left by the best gain per bit. Throws kUsage when
// even the smallest choices exceed the target (naming the least possible), kInput for layers without choices, fused
// layers with different numbers of choices, or errors that are not finite.
BitAllocation allocate_bits(std::span<const BitLayer> layers, double target_bpw);

}  // namespace fettle::compress
