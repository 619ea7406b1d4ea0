#pragma once

#include <functional>
#include <span>
#include <vector>

#include "compress/solve/grid.h"

namespace fettle::compress {

enum class AwqRule : uint8_t {
  kDuo,             // AutoAWQ: x^r / (w^(1-r) + 1e-4), r = 0, 1/20 .. 19/20
  kCompressor,      // llm-compressor: no scaling, then the same with r = i/18, i = 0 .. 18
  kActivationOnly,  // x^r, r = 0, 1/20 .. 19/20
};

struct AwqCandidate {
  double ratio = 0;
  bool identity = false;       // no scaling at all
  std::vector<double> scales;  // [K], normalised by sqrt(max min), at least 1e-4
};

// mean |x| of every channel: x [T, K].
std::vector<double> channel_mean_magnitude(MatView<const float> x);
// Mean over all rows of all layers of |W| / (largest of its group + 1e-6): [K]. group divides K.
std::vector<double> relative_weight_magnitude(std::span<const MatView<const float>> weights, int64_t group);

// Candidate scalings in the order they are tried (AWQ, arXiv 2306.00978). x_mean, w_mean: [K].
std::vector<AwqCandidate> awq_candidates(std::span<const double> x_mean, std::span<const double> w_mean, AwqRule rule);

struct AwqResult {
  std::vector<double> losses;  // per candidate
  size_t best = 0;             // the first with the least loss
  std::vector<float> scales;   // of the best: fold as producer /= s, columns *= s
  double ratio = 0;
};

// Tries every candidate; loss(scales) = error of the layers' outputs, or of the module around them, with weights
// Q(W s) / s. The caller decides what the loss sees.
AwqResult awq_search(const std::vector<AwqCandidate>& candidates,
                     const std::function<double(std::span<const double>)>& loss);

// Q(W s) / s on the absmax grid of the format: what the loss needs. F64, as a rounding tie would else be decided by the
// noise of F32 (exact_fit). out: [N, K].
void awq_fake_quantise(MatView<const float> w, std::span<const double> scales, Format format,
                       const FormatOptions& options, int bits, MatView<double> out, ThreadPool& pool);

// The loss of layers that share one input: sum over layers of |x (W - Q(W s)/s)^T|^2 / number of outputs. x: [T, K].
double awq_output_loss(MatView<const float> x, std::span<const MatView<const float>> weights,
                       std::span<const double> scales, Format format, const FormatOptions& options, int bits,
                       ThreadPool& pool);

struct AwqClip {
  std::vector<float> max;    // [N, K / group] limit of |w|
  std::vector<float> error;  // [N, K / group] of the chosen limit: mean over tokens of squared partial dots
};

// Clip search: every group's largest magnitude shrunk by 1 - i/20, i = 0..9, least error of the group's partial dot
// products on x [T, K] (at most 512 tokens are used, evenly spread). Not for q and k projections.
AwqClip awq_clip(MatView<const float> w, MatView<const float> x, Format format, const FormatOptions& options, int bits,
                 ThreadPool& pool);
void apply_clip(MatView<float> w, const AwqClip& clip);

}  // namespace fettle::compress
