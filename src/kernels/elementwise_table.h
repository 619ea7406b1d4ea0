#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/exp2.h"
#include "kernels/norm.h"
#include "kernels/simd/target.h"

// One row or span each; the entry points (elementwise.cpp) check shapes and loop.
namespace fettle::kernels::detail {

struct ElementwiseKernels {
  void (*exp2)(const float* x, size_t n, int degree, float* y);
  void (*rms_norm)(const float* x, const float* w, float eps, NormWeight kind, size_t n, float* y);
  void (*layer_norm)(const float* x, const float* w, const float* b, float eps, size_t n, float* y);
  void (*rope_halves)(float* x, const float* cos, const float* sin, size_t half);
  void (*rope_pairs)(float* x, const float* cos, const float* sin, size_t half);
  void (*gated)(const float* gate, const float* up, Gate kind, size_t n, float* out);
  void (*add)(const float* a, const float* b, size_t n, float* out);
  void (*scale)(const float* x, float factor, size_t n, float* out);
  void (*mul)(const float* a, const float* b, size_t n, float* out);
  // Blocks of k, a power of two that divides n, times H / sqrt(k); y may be x.
  void (*hadamard)(const float* x, size_t n, size_t k, float factor, float* y);
  // Blocks of k times m [k, k]; y must not overlap x.
  void (*rotate)(const float* x, size_t n, size_t k, const float* m, float* y);
  void (*softcap)(const float* x, float cap, size_t n, float* out);
  void (*softmax)(const float* x, float scale, size_t n, float* y);
  float (*log_sum_exp)(const float* x, size_t n);
  ArgMax (*argmax)(const float* x, size_t n);
  // First i in [from, n) with x[i] > threshold, or n.
  size_t (*find_greater)(const float* x, size_t from, size_t n, float threshold);
};

extern const ElementwiseKernels kElementwiseScalar;
#if defined(__x86_64__)
extern const ElementwiseKernels kElementwiseAvx2, kElementwiseAvx512;
#endif

}  // namespace fettle::kernels::detail
