#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/weight.h"

// Vector operations of a forward pass on f32. Outputs may alias inputs; NaN propagates; all sizes must agree
// (kInternal). e^x is a degree-5 polynomial (2e-7 relative), tanh 3e-7.
namespace fettle::kernels {

enum class Gate : uint8_t {
  kSilu,      // g / (1 + e^-g): SwiGLU
  kGeluTanh,  // 0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))): GeGLU
};

// out[r][c] = activation(gate[r][c]) * up[r][c]; [rows, cols].
void gated_activation(MatView<const float> gate, MatView<const float> up, Gate kind, MatView<float> out);

void add(std::span<const float> a, std::span<const float> b, std::span<float> out);
void scale(std::span<const float> x, float factor, std::span<float> out);
void mul(std::span<const float> a, std::span<const float> b, std::span<float> out);
// Blocks of k, a power of two that divides the size, times Hadamard / sqrt(k): the bits of fettle::hadamard_blocks().
void hadamard(std::span<const float> x, size_t k, std::span<float> out);
// Blocks of m.rows times the square m, sums of fused products in order of the input index; out must not overlap x.
void rotate(std::span<const float> x, MatView<const float> m, std::span<float> out);
// out = every row of x after the transform (tensor/weight.h): the bits of fettle::apply_input_transform().
void transform_rows(const InputTransform& t, MatView<const float> x, MatView<float> out);
// cap * tanh(x / cap), cap > 0.
void softcap(std::span<const float> x, float cap, std::span<float> out);

// y[i] = e^(scale x[i]) / sum; scale > 0. All -inf gives zeros; NaN or +inf anywhere gives all NaN; empty is a no-op.
void softmax(std::span<const float> x, float scale, std::span<float> y);
// log sum e^x; -inf for empty or all -inf, NaN when any x is NaN or +inf.
float log_sum_exp(std::span<const float> x);

struct ArgMax {
  uint32_t id = 0;       // lowest id among equal values; 0 when nothing compares (empty, all NaN)
  float value = 0;       // -inf when nothing compares
  size_t nonfinite = 0;  // NaN and +inf elements (-inf is what masks write)
};
ArgMax argmax(std::span<const float> x);

struct Candidate {
  uint32_t id;
  float value;
};
// The k largest, value descending, id ascending among equals; fewer when x has fewer than k elements that are not NaN.
// Cost O(n + k log k log n) for random order; `out` is reused storage.
void top_k(std::span<const float> x, size_t k, std::vector<Candidate>& out);

}  // namespace fettle::kernels
