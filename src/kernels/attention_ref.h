#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <span>
#include <vector>

// Attention by its definition, in f64: the oracle of the attention tests.
namespace fettle::kernels::ref {

struct AttentionRow {
  std::vector<double> out;  // [value_dim]
  double lse = 0;
};

// q: [head_dim]; keys, values: row j at keys + j * head_dim, values + j * value_dim; visible(j) says whether key j
// counts. sink: null or a natural-log logit.
inline AttentionRow attention_row(const float* q, const float* keys, const float* values, size_t n_keys,
                                  size_t head_dim, size_t value_dim, double scale, double softcap, const float* sink,
                                  const std::function<bool(size_t)>& visible) {
  std::vector<double> scores(n_keys, -std::numeric_limits<double>::infinity());
  double top = sink ? *sink : -std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < n_keys; ++j) {
    if (!visible(j)) continue;
    double dot = 0;
    for (size_t d = 0; d < head_dim; ++d) dot += static_cast<double>(q[d]) * keys[j * head_dim + d];
    scores[j] = softcap > 0 ? softcap * std::tanh(dot * scale / softcap) : dot * scale;
    if (!(scores[j] <= top)) top = scores[j];
  }
  AttentionRow row{std::vector<double>(value_dim, 0.0), -std::numeric_limits<double>::infinity()};
  if (top == -std::numeric_limits<double>::infinity()) return row;
  double sum = sink ? std::exp(*sink - top) : 0;
  for (size_t j = 0; j < n_keys; ++j) {
    if (!visible(j)) continue;
    const double p = std::exp(scores[j] - top);
    sum += p;
    for (size_t d = 0; d < value_dim; ++d) row.out[d] += p * values[j * value_dim + d];
  }
  for (double& y : row.out) y /= sum;
  row.lse = top + std::log(sum);
  return row;
}

}  // namespace fettle::kernels::ref
