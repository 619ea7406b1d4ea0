#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/quant_kernels.h"
#include "tensor/formats/fx3.h"

// Contents of a PreparedWeight, for the drivers and the tests.
namespace fettle::kernels {

enum class Layout : uint8_t { kDense, kQuant, kFp8, kFx3 };

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
  InputTransform input;  // the driver applies it to the activations

  Tensor dense;  // kDense: [N, K], possibly borrowed and unaligned

  PackedWeight fx3;  // kFx3: as stored, possibly borrowed

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

inline size_t fx3_row_bytes(const PreparedData& p) {
  return formats::fx3_tiles(static_cast<size_t>(p.cols)) * formats::kFx3TileBytes;
}
inline const uint8_t* fx3_tiles_of(const PreparedData& p, size_t row, size_t first_tile) {
  return p.fx3.codes.data<uint8_t>() + row * fx3_row_bytes(p) + first_tile * formats::kFx3TileBytes;
}
inline const uint8_t* fx3_table_of(const PreparedData& p, size_t row) {
  return p.fx3.high_tables.data<uint8_t>() + row / formats::kFx3TableRows * formats::kFx3TableSize;
}

}  // namespace fettle::kernels
