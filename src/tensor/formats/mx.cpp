#include "tensor/formats/mx.h"

#include <algorithm>

#include "tensor/formats/codecs.h"
#include "tensor/formats/encode_common.h"
#include "tensor/formats/pack.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

constexpr size_t kGroup = 32;

// Reciprocal of an E8M0 scale: a power of two, so multiplying by it is exact.
float inverse_scale(uint8_t code) { return e8m0_to_f32(static_cast<uint8_t>(254 - code)); }

PackedWeight allocate_mx(Format format, MatView<const float> w, const FormatOptions& o, ThreadPool* pool) {
  const std::string_view name = format_info(format).name;
  check_weights(name, w, pool);
  if (o.group_size != 0 && o.group_size != static_cast<int64_t>(kGroup))
    fail(ErrorCode::kInput, "{}: group size {}: expected 32", name, o.group_size);
  resolve_group(name, 0, kGroup, w.cols, false);
  return allocate_packed(format, static_cast<int64_t>(w.rows), static_cast<int64_t>(w.cols), {});
}

}  // namespace

uint8_t mx_scale_code(float a, MxScale rule, MxElement element) {
  if (a == 0) return kE8M0One;
  uint32_t b = f32_bits(a);
  if (rule == MxScale::kEven) b += 1u << 21;
  if (rule == MxScale::kCeil) b += 0x7FFFFFu - element.max_mantissa;  // carries when the mantissa exceeds the maximum's
  const int code = static_cast<int>(b >> 23) - element.max_exponent;
  return static_cast<uint8_t>(std::clamp(code, 0, 254));
}

PackedWeight encode_mxfp4(MatView<const float> w, const FormatOptions& o, ThreadPool* pool) {
  PackedWeight p = allocate_mx(Format::kMxfp4, w, o, pool);
  uint8_t *codes = part_bytes(p.codes), *scales = part_bytes(p.scales);
  for_rows(w.rows, pool, [&](size_t r) {
    std::vector<uint8_t> row(w.cols);
    const float* x = w.row(r);
    for (size_t k = 0; k < w.cols; k += kGroup) {
      const uint8_t code = mx_scale_code(abs_max({x + k, kGroup}), o.mx_scale, kMxE2M1);
      const float inverse = inverse_scale(code);
      for (size_t i = k; i < k + kGroup; ++i) row[i] = f32_to_e2m1(x[i] * inverse);
      scales[(r * w.cols + k) / kGroup] = code;
    }
    pack_nibbles(row, codes + r * w.cols / 2);
  });
  return p;
}

PackedWeight encode_mxfp8(MatView<const float> w, const FormatOptions& o, ThreadPool* pool) {
  PackedWeight p = allocate_mx(Format::kMxfp8, w, o, pool);
  uint8_t *codes = part_bytes(p.codes), *scales = part_bytes(p.scales);
  for_rows(w.rows, pool, [&](size_t r) {
    const float* x = w.row(r);
    for (size_t k = 0; k < w.cols; k += kGroup) {
      const uint8_t code = mx_scale_code(abs_max({x + k, kGroup}), o.mx_scale, kMxE4M3);
      const float inverse = inverse_scale(code);
      for (size_t i = k; i < k + kGroup; ++i) codes[r * w.cols + i] = f32_to_e4m3(x[i] * inverse);
      scales[(r * w.cols + k) / kGroup] = code;
    }
  });
  return p;
}

}  // namespace fettle::formats
