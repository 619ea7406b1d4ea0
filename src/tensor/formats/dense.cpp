#include "tensor/formats/dense.h"

#include "tensor/convert.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/encode_common.h"

namespace fettle::formats {
namespace {

PackedWeight encode_dense(Format format, DType dtype, MatView<const float> w, ThreadPool* pool) {
  check_weights(dtype_name(dtype), w, pool);
  PackedWeight p;
  p.format = format;
  p.rows = static_cast<int64_t>(w.rows);
  p.cols = static_cast<int64_t>(w.cols);
  p.codes = Tensor::empty(dtype, {p.rows, p.cols});
  auto* out = const_cast<std::byte*>(p.codes.bytes().data());
  const size_t stride = w.cols * dtype_bytes(dtype);
  for_rows(w.rows, pool, [&](size_t r) { convert_from_f32(w.row_span(r), dtype, out + r * stride); });
  return p;
}

}  // namespace

PackedWeight encode_f32(MatView<const float> w, const FormatOptions&, ThreadPool* pool) {
  return encode_dense(Format::kF32, DType::kF32, w, pool);
}

PackedWeight encode_f16(MatView<const float> w, const FormatOptions&, ThreadPool* pool) {
  for (size_t r = 0; r < w.rows; ++r)
    if (const float a = abs_max(w.row_span(r)); a >= 65520.0f && a <= 3.4e38f)
      fail(ErrorCode::kNumeric, "f16: row {} holds magnitude {}: expected at most 65504; use bf16", r, a);
  return encode_dense(Format::kF16, DType::kF16, w, pool);
}

PackedWeight encode_bf16(MatView<const float> w, const FormatOptions&, ThreadPool* pool) {
  return encode_dense(Format::kBF16, DType::kBF16, w, pool);
}

}  // namespace fettle::formats
