#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace fettle::decoding {

// sum exp(x) and sum x exp(x) for x = (logit - max) * inverse <= 0; a logit of -inf adds nothing.
struct SoftmaxSums {
  double z = 0, xz = 0;
};

// exp(x) for x <= 0 in F32 without branches, so that the compiler vectorises it: x = n ln 2 + r with |r| <= ln 2 / 2
// (Cody and Waite's two-part ln 2), degree-6 Taylor polynomial of r (truncation below 1.3e-7 relative), 2^n by exponent
// bits. Below -87 the result is 0.
inline float exp_nonpositive(float x) {
  const float clamped = std::max(x, -87.0f);
  const float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;  // rounds to nearest: 1.5 * 2^23 drops fractions
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  const float p = 1 + r * (1 + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720))))));
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

// logit(i) for i in [0, count). Short rows use std::exp in F64; long ones F32 terms in partial sums of 256 that are
// added up in F64: relative error about 2e-7, at a tenth of the time.
template <typename Logit>
SoftmaxSums softmax_sums(size_t count, double max, double inverse, Logit logit) {
  constexpr size_t kLong = 1024, kBlock = 256;
  SoftmaxSums sums;
  if (count < kLong) {
    for (size_t i = 0; i < count; ++i) {
      const double x = (static_cast<double>(logit(i)) - max) * inverse;
      if (x == -INFINITY) continue;
      const double w = std::exp(x);
      sums.z += w;
      sums.xz += x * w;
    }
    return sums;
  }
  const float fmax = static_cast<float>(max), finverse = static_cast<float>(inverse);
  float w[kBlock], xw[kBlock];
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t n = std::min(kBlock, count - begin);
    for (size_t i = 0; i < n; ++i) {
      const float x = std::max((logit(begin + i) - fmax) * finverse, -1e4f);
      w[i] = exp_nonpositive(x);
      xw[i] = x * w[i];
    }
    float z[8] = {}, xz[8] = {};
    for (size_t i = n; i < kBlock; ++i) w[i] = xw[i] = 0;
    for (size_t i = 0; i < kBlock; i += 8)
      for (size_t lane = 0; lane < 8; ++lane) {
        z[lane] += w[i + lane];
        xz[lane] += xw[i + lane];
      }
    for (size_t lane = 0; lane < 8; ++lane) {
      sums.z += static_cast<double>(z[lane]);
      sums.xz += static_cast<double>(xz[lane]);
    }
  }
  return sums;
}

}  // namespace fettle::decoding
