#pragma once

#include "tensor/weight.h"

namespace fettle::formats {

// Divisor that maps the tensor's largest magnitude to 448 * 6; 1 for a zero tensor. Layers that are fused at run time
// (q, k, v; gate, up) share the smallest of theirs through FormatOptions::fixed_global_scale.
float nvfp4_global_scale(float tensor_abs_max);

// NVFP4 (specs/00 2.2): gs = global scale, group scale code c = e4m3(gs * a / 6), effective scale dec(c) / gs, elements
// rounded to nearest even. tensor_scale = 1 / gs. Groups of 16, K % 16 == 0. Zero groups: scale code of 1.0; groups too
// small for the scale's range take its smallest positive code.
PackedWeight encode_nvfp4(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
