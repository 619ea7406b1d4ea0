#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "kernels/matmul_driver.h"
#include "kernels/prepared.h"
#include "tensor/formats/codecs.h"

// Embedding lookups: single rows back in the canonical layout, decoded by the format's own reference.
namespace fettle::kernels {
namespace {

uint8_t stored_code(const PreparedData& p, const uint8_t* block, size_t lane, size_t k) {
  if (p.layout == Layout::kFp8) return block[k * kLanes + lane];
  const auto group = static_cast<size_t>(p.group_size);
  const size_t pos = p.pads_groups ? k / group * p.group + k % group : k;
  if (p.spec.form == CodeForm::kByte) return block[pos / 4 * 64 + 4 * lane + pos % 4];
  const uint8_t byte = block[pos / 8 * 64 + 4 * lane + pos % 4];
  return pos % 8 < 4 ? byte & 15 : byte >> 4;
}

Tensor one_row(DType dtype, const AlignedBuffer<uint8_t>& values, size_t per_block, size_t kept, size_t block,
               size_t lane) {
  Tensor t = Tensor::zeros(dtype, {1, static_cast<int64_t>(kept)});
  const size_t size = dtype_bytes(dtype);
  auto* out = const_cast<std::byte*>(t.bytes().data());
  for (size_t g = 0; g < kept; ++g)
    std::memcpy(out + g * size, values.data() + ((block * per_block + g) * kLanes + lane) * size, size);
  return t;
}

PackedWeight packed_row(const PreparedData& p, size_t row) {
  const size_t block = row / kLanes, lane = row % kLanes, cols = static_cast<size_t>(p.cols);
  const uint8_t* codes = p.codes.data() + block * p.code_block_bytes();
  const bool four_bit = p.layout == Layout::kQuant && p.spec.form != CodeForm::kByte;
  PackedWeight w;
  w.format = p.format;
  w.rows = 1;
  w.cols = p.cols;
  w.group_size = p.group_size;
  w.tensor_scale = p.tensor_scale;
  w.input = p.input;
  w.codes = Tensor::zeros(p.code_dtype, {1, four_bit ? ceil_div<int64_t>(p.cols, 2) : p.cols});
  auto* out = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(w.codes.bytes().data()));
  const int flip = p.code_dtype == DType::kI8 ? p.spec.offset : 0;
  for (size_t k = 0; k < cols; ++k) {
    const uint8_t code = stored_code(p, codes, lane, k);
    if (four_bit) {
      out[k / 2] |= static_cast<uint8_t>(code << (4 * (k % 2)));
    } else {
      out[k] = static_cast<uint8_t>(code - flip);
    }
  }
  const auto groups = static_cast<size_t>(w.groups());
  const auto supers = ceil_div<size_t>(cols, 256);
  w.scales = one_row(p.scales.dtype, p.scales.values, p.groups, groups, block, lane);
  if (p.scales.supers.size() > 0) w.super_scales = one_row(DType::kF16, p.scales.supers, supers, supers, block, lane);
  if (p.mins.present()) w.mins = one_row(p.mins.dtype, p.mins.values, p.groups, groups, block, lane);
  if (p.spec.form == CodeForm::kNibbleTable16 && p.mins.present()) {  // multiplied by the integer factor of NF4's table
    const float factor = std::nearbyint(p.tensor_scale / p.out_scale);
    for (size_t g = 0; g < groups; ++g) w.mins.mutable_data<float>()[g] /= factor;
  }
  if (p.mins.supers.size() > 0) w.super_mins = one_row(DType::kF16, p.mins.supers, supers, supers, block, lane);
  if (p.zero_points.size() > 0) w.zero_points = one_row(DType::kU8, p.zero_points, p.groups, groups, block, lane);
  return w;
}

void check_rows(int64_t n, int64_t k, std::span<const int32_t> rows, const MatView<float>& out) {
  FETTLE_CHECK_EQ(out.rows, rows.size());
  FETTLE_CHECK_EQ(out.cols, static_cast<size_t>(k));
  for (int32_t r : rows)
    if (r < 0 || r >= n) fail(ErrorCode::kInternal, "decode_rows: row {}: expected [0, {})", r, n);
}

}  // namespace

void decode_rows(const PackedWeight& w, std::span<const int32_t> rows, MatView<float> out) {
  check_rows(w.rows, w.cols, rows, out);
  for (size_t i = 0; i < rows.size(); ++i) decode_row(w, rows[i], out.row_span(i));
}

void decode_rows(const PreparedWeight& w, std::span<const int32_t> rows, MatView<float> out) {
  check_rows(w.rows(), w.cols(), rows, out);
  if (rows.empty()) return;
  const PreparedData& p = w.data();
  if (p.layout == Layout::kFx3) {
    const auto cols = static_cast<size_t>(p.cols);
    std::vector<uint16_t> bits(formats::fx3_tiles(cols) * formats::kFx3Tile);
    for (size_t i = 0; i < rows.size(); ++i) {
      fx3_decode_block(fx3_kernel(active_isa()), p, static_cast<size_t>(rows[i]), 0, cols, bits.data());
      for (size_t k = 0; k < cols; ++k) out.row(i)[k] = formats::bf16_to_f32(bits[k]);
    }
    return;
  }
  if (p.layout == Layout::kDense) {
    PackedWeight dense = dense_weight(p.dense);
    dense.input = p.input;
    return decode_rows(dense, rows, out);
  }
  for (size_t i = 0; i < rows.size(); ++i) decode_row(packed_row(p, static_cast<size_t>(rows[i])), 0, out.row_span(i));
}

}  // namespace fettle::kernels
