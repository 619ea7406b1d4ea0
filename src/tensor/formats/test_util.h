#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/random.h"
#include "tensor/weight.h"

// Helpers of the tests in this folder.
namespace fettle::formats {

inline std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

inline std::vector<float> gauss(size_t n, uint64_t seed, float scale = 1.0f) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = scale * random.normal();
  return x;
}

// Deviation 1.
inline std::vector<float> laplace(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) {
    const double u = random.uniform() - 0.5;
    v = static_cast<float>((u < 0 ? 1 : -1) * std::sqrt(0.5) * std::log(1 - 2 * std::fabs(u)));
  }
  return x;
}

inline MatView<const float> as_matrix(const std::vector<float>& x, size_t cols) {
  return {x.data(), x.size() / cols, cols};
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.nbytes() == 0 || std::memcmp(a.bytes().data(), b.bytes().data(), a.nbytes()) == 0);
}

inline bool same_weight(const PackedWeight& a, const PackedWeight& b) {
  return a.format == b.format && a.rows == b.rows && a.cols == b.cols && a.group_size == b.group_size &&
         a.tensor_scale == b.tensor_scale && same_bytes(a.codes, b.codes) && same_bytes(a.scales, b.scales) &&
         same_bytes(a.zero_points, b.zero_points) && same_bytes(a.mins, b.mins) &&
         same_bytes(a.super_scales, b.super_scales) && same_bytes(a.super_mins, b.super_mins) &&
         same_bytes(a.input.col_scales, b.input.col_scales) && a.input.hadamard == b.input.hadamard &&
         same_bytes(a.input.rotation, b.input.rotation);
}

inline bool same_floats(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

}  // namespace fettle::formats
