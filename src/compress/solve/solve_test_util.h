#pragma once

#include <cmath>
#include <vector>

#include "base/random.h"
#include "tensor/tensor.h"

namespace fettle::compress::testing {

struct TestMatrix {
  size_t rows, cols;
  std::vector<float> data;
  MatView<const float> view() const { return {data.data(), rows, cols}; }
  float& at(size_t r, size_t c) { return data[r * cols + c]; }
};

// Numbers of a fixed pseudo-random sequence (a linear congruential generator, as any will do), roughly normal.
inline TestMatrix normal_matrix(size_t rows, size_t cols, uint64_t seed) {
  TestMatrix m{rows, cols, std::vector<float>(rows * cols)};
  uint64_t s = seed * 0x9E3779B97F4A7C15ull + 1;
  const auto uniform = [&] {
    s = s * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(s >> 33) / 2147483648.0 - 0.5;
  };
  for (float& v : m.data) v = static_cast<float>(uniform() + uniform() + uniform() + uniform());
  return m;
}

// Inputs with unequal energies and correlations between neighbours.
inline TestMatrix correlated_inputs(size_t tokens, size_t k, uint64_t seed) {
  TestMatrix m = normal_matrix(tokens, k, seed);
  for (size_t t = 0; t < tokens; ++t)
    for (size_t c = 0; c < k; ++c) {
      if (c > 0) m.at(t, c) += 0.6f * m.at(t, c - 1);
      if (c % 7 == 3) m.at(t, c) *= 4;
    }
  return m;
}

// E[x x^T] by the definition, F64 sums.
inline TestMatrix moments(const TestMatrix& x, const TestMatrix& y) {
  TestMatrix h{x.cols, x.cols, std::vector<float>(x.cols * x.cols)};
  for (size_t i = 0; i < x.cols; ++i)
    for (size_t j = 0; j < x.cols; ++j) {
      double s = 0;
      for (size_t t = 0; t < x.rows; ++t)
        s += static_cast<double>(x.data[t * x.cols + i]) * static_cast<double>(y.data[t * x.cols + j]);
      h.at(i, j) = static_cast<float>(s / static_cast<double>(x.rows));
    }
  return h;
}

}  // namespace fettle::compress::testing
