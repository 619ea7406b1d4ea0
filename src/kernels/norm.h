#pragma once

#include <span>

#include "tensor/tensor.h"

namespace fettle::kernels {

enum class NormWeight : uint8_t {
  kPlain,    // y = x_hat * w
  kOnePlus,  // y = x_hat * (1 + w), the Gemma convention
};

// y[r][c] = x[r][c] / sqrt(mean_c(x[r]^2) + eps) * weight(c); f32, sums f32. x, y: [rows, cols], w: [cols] or empty (no
// weight). y may alias x. Cost: one read, one write of memory per row that fits L1.
void rms_norm(MatView<const float> x, std::span<const float> w, float eps, NormWeight kind, MatView<float> y);

// y = (x - mean) / sqrt(variance + eps) * w + b per row; w, b: [cols] or empty. y may alias x.
void layer_norm(MatView<const float> x, std::span<const float> w, std::span<const float> b, float eps,
                MatView<float> y);

}  // namespace fettle::kernels
