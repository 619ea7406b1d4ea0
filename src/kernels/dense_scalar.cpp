#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "kernels/dense_kernels.h"
#include "tensor/formats/codecs.h"

// Portable level of the dense products: eight lane sums over k, as the AVX2 level keeps them.
namespace fettle::kernels {
namespace {

DenseForm act_form(DType) { return DenseForm::kF32; }

void pack_acts(const float* x, size_t cols, DenseForm, uint8_t* out) {
  std::memcpy(out, x, cols * sizeof(float));
  std::memset(out + cols * sizeof(float), 0, (round_up(cols, kDensePad) - cols) * sizeof(float));
}

float weight(DType type, const uint8_t* w, size_t k) {
  uint16_t half;
  if (type == DType::kF32) {
    float v;
    std::memcpy(&v, w + 4 * k, 4);
    return v;
  }
  std::memcpy(&half, w + 2 * k, 2);
  return type == DType::kF16 ? formats::f16_to_f32(half) : formats::bf16_to_f32(half);
}

void dot(const DenseArgs& d) {
  for (size_t n = 0; n < d.rows; ++n) {
    const uint8_t* w = d.w + n * d.w_stride;
    for (size_t t = 0; t < d.tokens; ++t) {
      const auto* x = reinterpret_cast<const float*>(d.x + t * d.x_stride);
      float lanes[8] = {};
      for (size_t k = 0; k < d.cols; ++k) lanes[k % 8] = std::fma(weight(d.type, w, k), x[k], lanes[k % 8]);
      const float sum =
          ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
      float& y = d.y[t * d.y_stride + n];
      y = d.add ? y + sum : sum;
    }
  }
}

}  // namespace

const DenseKernels& scalar_dense_kernels() {
  static constexpr DenseKernels kKernels{"scalar", Isa::kScalar, &act_form, &pack_acts, &dot};
  return kKernels;
}

}  // namespace fettle::kernels
