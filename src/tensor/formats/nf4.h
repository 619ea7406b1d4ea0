#pragma once

#include "tensor/weight.h"

namespace fettle::formats {

// Index of the nearest NF4 value to x in [-1, 1]; a midpoint goes to the lower index.
uint8_t f32_to_nf4(float x);

// NF4 (QLoRA, arXiv 2305.14314): blocks of 64 along the row by default, scale = max |x| in options.scale_dtype, code =
// nearest table entry of x / scale. Zero blocks: scale 0, code 7. Short last blocks are allowed.
PackedWeight encode_nf4(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
