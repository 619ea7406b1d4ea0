#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernels/matmul.h"
#include "tensor/weight.h"

namespace fettle::models {

class Linear;

// Sees the input of every linear layer as it runs: calibration, statistics, tracing.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  // x: [T, in] f32, before any conversion of activations.
  virtual void on_input(const Linear& linear, MatView<const float> x) = 0;
};

// Shared working state of one forward pass.
struct Exec {
  ThreadPool& pool;
  kernels::MatmulScratch& scratch;
  kernels::ActMode activations;
  LayerObserver* observer = nullptr;
};

// y = x W^T + b. The only way a model multiplies by a weight.
class Linear {
 public:
  Linear() = default;
  Linear(kernels::PreparedWeight weight, std::vector<float> bias)
      : weight_(std::move(weight)), bias_(std::move(bias)) {}

  // x: [T, in], y: [T, out].
  void forward(MatView<const float> x, Exec& exec, MatView<float> y) const;

  int64_t in_features() const { return weight_.cols(); }
  int64_t out_features() const { return weight_.rows(); }
  bool present() const { return !weight_.is_empty(); }
  const kernels::PreparedWeight& weight() const { return weight_; }
  const std::vector<float>& bias() const { return bias_; }

 private:
  kernels::PreparedWeight weight_;
  std::vector<float> bias_;  // [out] or empty
};

// Several projections of the same input in one parallel region; the input is quantised once.
void forward_many(MatView<const float> x, std::span<const Linear* const> linears, Exec& exec,
                  std::span<const MatView<float>> ys);

}  // namespace fettle::models
