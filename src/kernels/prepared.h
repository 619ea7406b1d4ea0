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

  Tensor dense;  // kDense: [N, K], possibly borrowed and unaligned

  PackedWeight fx3;                    // kFx3: as stored, possibly borrowed
  AlignedBuffer<uint8_t> fx3_escapes;  // with the bytes that kernels read beyond the last

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

inline const uint8_t* fx3_tiles_of(const PreparedData& p, size_t row) {
  return p.fx3.codes.data<uint8_t>() + row * formats::fx3_tiles(static_cast<size_t>(p.cols)) * formats::kFx3TileBytes;
}
inline uint8_t fx3_base_of(const PreparedData& p, size_t row) { return p.fx3.exponent_bases.data<uint8_t>()[row]; }
inline const uint8_t* fx3_escapes_of(const PreparedData& p, size_t row) {
  const size_t groups = formats::fx3_groups(static_cast<size_t>(p.cols));
  return p.fx3_escapes.data() + p.fx3.escape_starts.data<uint32_t>()[row * groups];
}

}  // namespace fettle::kernels
