#pragma once

#include "tensor/weight.h"

namespace fettle::formats {

// Dense storage: a copy (F32), or round to nearest even (F16, BF16). F16 refuses weights beyond 65504 with kNumeric.
PackedWeight encode_f32(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);
PackedWeight encode_f16(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);
PackedWeight encode_bf16(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
