#include "base/checked.h"
#include "base/error.h"
#include "io/linear_parts.h"
#include "tensor/formats/pack.h"

// compressed-tensors layouts (vllm-project/compressed-tensors ac8e2ba8; specs/00 section 2.4).
namespace fettle::io {
namespace {

constexpr std::initializer_list<DType> kInt8Type = {DType::kI8};

void check_weight_shape(const Parts& parts, int64_t rows, int64_t cols) {
  if (!parts.has(".weight_shape")) return;
  const Tensor t = parts.need(".weight_shape", {DType::kI64, DType::kI32}, {{2}});
  int64_t shape[2];
  for (size_t i = 0; i < 2; ++i) shape[i] = t.dtype() == DType::kI64 ? t.data<int64_t>()[i] : t.data<int32_t>()[i];
  if (shape[0] != rows || shape[1] != cols)
    parts.refuse(".weight_shape", fmt::format("expected [{}, {}], found [{}, {}]", rows, cols, shape[0], shape[1]));
}

// Packed codes of whole rows, one code per byte: [N,K].
Tensor unpack_rows(const Tensor& packed, int bits, int64_t rows, int64_t cols) {
  const auto codes = formats::unpack_int32(packed.bytes(), static_cast<size_t>(rows), static_cast<size_t>(cols), bits);
  return Tensor::from<uint8_t>(codes, {rows, cols});
}

// Zero points in the unsigned code space, [N,G]. Packed along N; files of older versions hold them as I8.
Tensor read_zero_points(const Parts& parts, int bits, int64_t rows, int64_t groups) {
  const int64_t words = ceil_div<int64_t>(rows * bits, 32);
  const Tensor t = parts.need(".weight_zero_point", {DType::kI32, DType::kI8}, {{words, groups}, {rows, groups}});
  if (t.dtype() == DType::kI8) {
    if (t.dim(0) != rows)
      parts.refuse(".weight_zero_point",
                   fmt::format("expected I8 {}, found {}", shape_text({rows, groups}), t.describe()));
    Tensor out = Tensor::empty(DType::kU8, {rows, groups});
    const int lo = -(1 << (bits - 1)), hi = (1 << (bits - 1)) - 1;
    for (int64_t i = 0; i < rows * groups; ++i) {
      const int z = t.data<int8_t>()[i];
      if (z < lo || z > hi)
        parts.refuse(".weight_zero_point", fmt::format("row {}, group {}: expected a zero point in [{}, {}], found {}",
                                                       i / groups, i % groups, lo, hi, z));
      out.mutable_data<uint8_t>()[i] = static_cast<uint8_t>(z - lo);
    }
    return out;
  }
  if (t.dim(0) != words)
    parts.refuse(".weight_zero_point",
                 fmt::format("expected I32 {}, found {}", shape_text({words, groups}), t.describe()));
  const auto codes =
      formats::unpack_int32_rows(t.bytes(), static_cast<size_t>(rows), static_cast<size_t>(groups), bits);
  return Tensor::from<uint8_t>(codes, {rows, groups});
}

PackedWeight read_pack_quantized(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  const int bits = scheme.num_bits;
  check_weight_shape(parts, rows, cols);
  const int64_t words = ceil_div<int64_t>(cols * bits, 32);
  const Tensor packed = parts.need(".weight_packed", {DType::kI32}, {{rows, words}});
  RowScales scales = read_row_scales(parts, ".weight_scale", scheme, rows, cols);
  const int64_t groups = scales.scales.dim(1);
  Tensor zeros;
  if (!scheme.symmetric) zeros = read_zero_points(parts, bits, rows, groups);
  if (parts.has(".weight_g_idx") && permutes_groups(parts, ".weight_g_idx", cols, scales))
    return indexed_weight(parts, ".weight_g_idx", bits, unpack_rows(packed, bits, rows, cols), zeros, scales);
  if (bits != 4 || cols % 8 != 0)
    return integer_weight(bits, unpack_rows(packed, bits, rows, cols), std::move(zeros), std::move(scales));
  // Eight low-first nibbles per little-endian word are already the canonical byte order: no copy.
  return int4_weight(packed, std::move(zeros), std::move(scales), rows, cols);
}

PackedWeight fp4_weight(Format format, Tensor codes, Tensor scales, int64_t rows, int64_t cols, float tensor_scale) {
  PackedWeight w;
  w.format = format;
  w.rows = rows;
  w.cols = cols;
  w.group_size = format == Format::kNvfp4 ? 16 : 32;
  w.codes = std::move(codes);
  w.scales = std::move(scales);
  w.tensor_scale = tensor_scale;
  return w;
}

void need_multiple(const Parts& parts, std::string_view suffix, int64_t cols, int64_t group) {
  if (cols % group != 0)
    parts.refuse(suffix, fmt::format("{} columns are no multiple of the group of {}", cols, group));
}

PackedWeight read_nvfp4(const Parts& parts, int64_t rows, int64_t cols) {
  need_multiple(parts, ".weight_packed", cols, 16);
  Tensor codes = parts.need(".weight_packed", {DType::kU8}, {{rows, cols / 2}});
  Tensor scales = parts.need(".weight_scale", {DType::kF8E4M3}, {{rows, cols / 16}});
  check_finite(parts, ".weight_scale", scales);
  const float global = parts.scalar(".weight_global_scale");
  return fp4_weight(Format::kNvfp4, std::move(codes), std::move(scales), rows, cols, 1.0f / global);
}

PackedWeight read_mx(const Parts& parts, Format format, std::string_view codes_suffix, int64_t rows, int64_t cols) {
  need_multiple(parts, codes_suffix, cols, 32);
  const bool four = format == Format::kMxfp4;
  Tensor codes = four ? parts.need(codes_suffix, {DType::kU8}, {{rows, cols / 2}})
                      : parts.need(codes_suffix, {DType::kF8E4M3}, {{rows, cols}});
  const Tensor stored = parts.need(".weight_scale", {DType::kU8, DType::kF8E8M0}, {{rows, cols / 32}});
  Tensor scales = reinterpret(stored, DType::kF8E8M0, {rows, cols / 32});
  check_finite(parts, ".weight_scale", scales);
  return fp4_weight(format, std::move(codes), std::move(scales), rows, cols, 1.0f);
}

// int-quantized, float-quantized, naive-quantized: one value per byte.
PackedWeight read_byte_codes(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  PackedWeight w;
  w.format = scheme.is_float ? Format::kFp8 : Format::kInt8;
  w.rows = rows;
  w.cols = cols;
  w.codes = parts.need(".weight", {scheme.is_float ? DType::kF8E4M3 : DType::kI8}, {{rows, cols}});
  RowScales scales = read_row_scales(parts, ".weight_scale", scheme, rows, cols);
  w.group_size = scales.group_size;
  w.scales = std::move(scales.scales);
  if (scheme.is_float) return w;
  if (scheme.symmetric) return w;
  // value = q - z with signed q, z: shift both by 128 into the unsigned code space.
  const int64_t groups = w.groups();
  const Tensor stored = groups == 1 ? parts.need(".weight_zero_point", kInt8Type, {{rows, 1}, {rows}, {1}, {}})
                                    : parts.need(".weight_zero_point", kInt8Type, {{rows, groups}});
  w.zero_points = Tensor::empty(DType::kU8, {rows, groups});
  for (int64_t i = 0; i < rows * groups; ++i)
    w.zero_points.mutable_data<uint8_t>()[i] =
        static_cast<uint8_t>(stored.data<int8_t>()[stored.numel() == 1 ? 0 : i] + 128);
  Tensor shifted = Tensor::empty(DType::kU8, {rows, cols});
  for (int64_t i = 0; i < rows * cols; ++i)
    shifted.mutable_data<uint8_t>()[i] = static_cast<uint8_t>(w.codes.data<int8_t>()[i] + 128);
  w.codes = std::move(shifted);
  return w;
}

}  // namespace

PackedWeight read_compressed_tensors(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  if (scheme.format == "pack-quantized") return read_pack_quantized(parts, scheme, rows, cols);
  if (scheme.format == "nvfp4-pack-quantized") return read_nvfp4(parts, rows, cols);
  if (scheme.format == "mxfp4-pack-quantized") return read_mx(parts, Format::kMxfp4, ".weight_packed", rows, cols);
  if (scheme.format == "mxfp8-quantized") return read_mx(parts, Format::kMxfp8, ".weight", rows, cols);
  if (scheme.is_float && scheme.num_bits != 8)
    parts.refuse(".weight", fmt::format("{} of {}-bit floats is not supported", scheme.format, scheme.num_bits));
  return read_byte_codes(parts, scheme, rows, cols);
}

}  // namespace fettle::io
