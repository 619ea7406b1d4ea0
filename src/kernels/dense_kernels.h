#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/cpu.h"
#include "tensor/dtype.h"

// Interface between the driver of dense products (dense_matmul.cpp) and the kernels of each ISA level.
namespace fettle::kernels {

// Products are summed over blocks of this many k: lane sums inside a block, then one float per (token, row) and block,
// added in k order. 4 tokens x 1024 F32 are half of L1.
inline constexpr size_t kDenseBlockK = 1024;
inline constexpr size_t kDensePad = 32;       // converted activation rows are zero-padded to a multiple
inline constexpr size_t kDenseTileRows = 24;  // a multiple of the row tiles of every level (3, 6, 8)

// How activations are stored for a weight type: kernels that split bf16 pairs with one shift and one mask want the even
// k of each 32 first.
enum class DenseForm : uint8_t {
  kF32,
  kF32Split32,  // k 0 2 4 .. 30, 1 3 .. 31 of every 32
  kBF16,
};
constexpr size_t dense_act_bytes(DenseForm form) { return form == DenseForm::kBF16 ? 2 : 4; }

// y[t][n] (+)= sum_k x[t][k] w[n][k] over at most kDenseBlockK values.
struct DenseArgs {
  DType type;        // F32, F16, BF16
  const uint8_t* w;  // [rows][cols], w_stride bytes apart, any alignment
  size_t w_stride;
  size_t rows;
  const uint8_t* x;  // [tokens][cols padded with zeros to 32], x_stride bytes apart, in the form of `act_form`
  size_t x_stride;
  size_t tokens;
  size_t cols;
  float* y;  // [tokens][rows], y_stride apart
  size_t y_stride;
  bool add;
};

struct DenseKernels {
  std::string_view name;
  Isa isa;
  DenseForm (*act_form)(DType type);
  void (*pack_acts)(const float* x, size_t cols, DenseForm form, uint8_t* out);
  void (*dot)(const DenseArgs& args);
};

const DenseKernels& scalar_dense_kernels();
#if defined(__x86_64__)
const DenseKernels& avx2_dense_kernels();
const DenseKernels& avx512_dense_kernels();
const DenseKernels& avx512_bf16_dense_kernels();
#endif

// The best list entry at or below `isa`.
const DenseKernels& dense_kernels(Isa isa);

}  // namespace fettle::kernels
