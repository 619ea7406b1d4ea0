#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace fettle {

// Any storage type to F32, element by element. src: out.size() elements, any byte alignment. 64-bit and 32-bit integers
// and F64 round to nearest; every other type is exact.
void convert_to_f32(DType dtype, const std::byte* src, std::span<float> out);

// F32 to F32, F16, BF16, F8_E4M3 or F8_E5M2 (the last two saturate), round to nearest even; dst: any byte alignment.
// Throws kInternal for other types.
void convert_from_f32(std::span<const float> src, DType dtype, std::byte* dst);

}  // namespace fettle
