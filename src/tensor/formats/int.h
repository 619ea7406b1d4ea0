#pragma once

#include "tensor/weight.h"

namespace fettle::formats {

// Integer groups of `bits` = 2..8 (specs/00 2.2): symmetric by options.int_scale, or asymmetric with zero points
//   mn = min(x, 0), mx = max(x, 0), s = (mx - mn) / (2^b - 1), z = rne(clamp(lo - mn / s, lo, hi)), q = rne(x / s + z).
// s is rounded to options.scale_dtype first. 2, 3 and 4 bits become their own formats, more become Format::kInt8; the
// last group of a row may be short. A group without a representable scale (all zero, or underflow) gets s = 1 and zero
// codes.
PackedWeight encode_int(MatView<const float> w, int bits, const FormatOptions& options, ThreadPool* pool);

PackedWeight encode_int8(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);
PackedWeight encode_int2(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);
PackedWeight encode_int3(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);
PackedWeight encode_int4(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
