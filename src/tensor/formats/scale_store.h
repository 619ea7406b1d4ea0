#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "tensor/formats/codecs.h"
#include "tensor/weight.h"

namespace fettle::formats {

// A float scale rounded to its storage type, so that elements are quantised with the number the reader will see.
// 0 when it underflows (the caller then stores a harmless scale). Throws kNumeric when F16 cannot hold it: weights
// whose scales pass 65504 need BF16 or F32 scales.
inline float round_scale(float scale, DType dtype, std::string_view format) {
  if (dtype == DType::kBF16) return bf16_to_f32(f32_to_bf16(scale));
  if (dtype == DType::kF16) {
    const float r = f16_to_f32(f32_to_f16(scale));
    if (!std::isfinite(r))
      fail(ErrorCode::kNumeric, "{}: scale {} exceeds 65504, the largest F16; use BF16 scales", format, scale);
    return r;
  }
  return scale;
}

// Stores a scale that round_scale() returned. dst: the scales of one row.
inline void store_scale(float scale, DType dtype, uint8_t* dst, size_t index) {
  if (dtype == DType::kF32) {
    std::memcpy(dst + 4 * index, &scale, 4);
  } else {
    const uint16_t h = dtype == DType::kBF16 ? f32_to_bf16(scale) : f32_to_f16(scale);
    std::memcpy(dst + 2 * index, &h, 2);
  }
}

// Nearest integer, ties to even, for |x| <= 2^22: the adder rounds at the unit because 1.5 * 2^23 has a step of 1.
inline int32_t round_even(float x) { return static_cast<int32_t>(f32_bits(x + 12582912.0f) - 0x4B400000u); }

}  // namespace fettle::formats
