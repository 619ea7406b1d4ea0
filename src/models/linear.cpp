#include "models/linear.h"

#include <array>

namespace fettle::models {
namespace {

void add_bias(MatView<float> y, const std::vector<float>& bias) {
  if (bias.empty()) return;
  for (size_t t = 0; t < y.rows; ++t) {
    float* row = y.row(t);
    for (size_t n = 0; n < y.cols; ++n) row[n] += bias[n];
  }
}

}  // namespace

void Linear::forward(MatView<const float> x, Exec& exec, MatView<float> y) const {
  if (exec.observer) exec.observer->on_input(*this, x);
  kernels::matmul(x, weight_, exec.activations, exec.pool, exec.scratch, y);
  add_bias(y, bias_);
}

void forward_many(MatView<const float> x, std::span<const Linear* const> linears, Exec& exec,
                  std::span<const MatView<float>> ys) {
  constexpr size_t kMost = 4;
  FETTLE_CHECK(linears.size() <= kMost && linears.size() == ys.size());
  std::array<const kernels::PreparedWeight*, kMost> weights{};
  for (size_t i = 0; i < linears.size(); ++i) {
    weights[i] = &linears[i]->weight();
    if (exec.observer) exec.observer->on_input(*linears[i], x);
  }
  kernels::matmul_many(x, std::span(weights).first(linears.size()), exec.activations, exec.pool, exec.scratch, ys);
  for (size_t i = 0; i < linears.size(); ++i) add_bias(ys[i], linears[i]->bias());
}

}  // namespace fettle::models
