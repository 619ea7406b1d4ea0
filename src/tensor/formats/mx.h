#pragma once

#include "tensor/weight.h"

namespace fettle::formats {

// Element formats under a shared power-of-two scale (OCP Microscaling 1.0).
struct MxElement {
  int max_exponent;       // floor(log2 max): E2M1 2, E4M3 8
  uint32_t max_mantissa;  // F32 mantissa bits of the maximum: 6 = 1.5 * 2^2, 448 = 1.75 * 2^8
};
inline constexpr MxElement kMxE2M1{2, 0x400000}, kMxE4M3{8, 0x600000};

// E8M0 code of a group with max |x| = a (finite), clamped to 0..254; kE8M0One for a = 0.
//   floor: floor(log2 a) - max_exponent (OCP text; clips above the maximum)
//   even:  the same after adding a quarter binade, so that a mantissa >= 1.75 moves up (compressed-tensors)
//   ceil:  smallest power of two with a / 2^e <= maximum (never clips)
uint8_t mx_scale_code(float a, MxScale rule, MxElement element);

// MXFP4 / MXFP8 (E4M3): groups of 32, K % 32 == 0; elements round to nearest even and saturate.
PackedWeight encode_mxfp4(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);
PackedWeight encode_mxfp8(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
