#pragma once

#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace fettle::compress {

enum class SmoothRule : uint8_t {
  kPaper,      // max|x|^a / max|W|^(1-a) (arXiv 2211.10438)
  kRange,      // llm-compressor: activation range (max - min) and 2 max|W|
  kLogarithm,  // r / log2(2 + r), r = max - min of the input; weights unused
};

// Per-channel extremes of layer inputs; mergeable over batches.
struct ChannelRange {
  std::vector<float> min, max;  // [K]
  explicit ChannelRange(int64_t k);
  void add(MatView<const float> x);  // kInput for another width, kNumeric for values that are not finite
  void merge(const ChannelRange& other);
};

// Smoothing factors s [K] of one norm output: divide the norm by s, multiply the columns of every reader by s. At least
// 1e-5. weights: all matrices [*, K] that read the input; a in [0, 1].
std::vector<float> smooth_factors(const ChannelRange& x, std::span<const MatView<const float>> weights, SmoothRule rule,
                                  double a);

// w columns *= s, or /= s.
void scale_columns(MatView<float> w, std::span<const float> s);
void unscale_columns(MatView<float> w, std::span<const float> s);

}  // namespace fettle::compress
