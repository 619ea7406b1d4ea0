#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/quant_kernels.h"

// Contents of a PreparedWeight, for the drivers and the tests.
namespace fettle::kernels {

enum class Layout : uint8_t { kDense, kQuant, kFp8 };

// Scales or mins of all groups, 16 rows together: [row blocks][groups][16], for K-quants times
// super [row blocks][supers][16] F16, one per 256 k.
struct GroupValues {
  DType dtype = DType::kF32;
  AlignedBuffer<uint8_t> values, supers;
  bool present() const { return values.size() > 0; }
};

struct PreparedData {
  Format format = Format::kF32;
  Layout layout = Layout::kDense;
  int64_t rows = 0, cols = 0;
  float tensor_scale = 1.0f;

  Tensor dense;  // kDense: [N, K], possibly borrowed and unaligned

  size_t row_blocks = 0;     // ceil(N / 16)
  int64_t group_size = 0;    // of the format
  size_t group = 0;          // k positions per group; padded_group where ActKey pads groups
  size_t groups = 0;         // per row, a whole number of panels' worth
  size_t step = 32;          // kQuant: k positions per integer sum
  size_t padded_cols = 0;    // kQuant: k positions, a multiple of 32
  bool pads_groups = false;  // group size is not a multiple of 16
  CodeSpec spec;
  float out_scale = 1.0f;  // result = out_scale * acc: tensor_scale over the factor the integer table was scaled by
  DType code_dtype = DType::kU8;
  AlignedBuffer<uint8_t> codes;
  GroupValues scales, mins;
  AlignedBuffer<uint8_t> zero_points;  // [row blocks][groups][16]

  size_t code_block_bytes() const;  // of one row block
};

}  // namespace fettle::kernels
