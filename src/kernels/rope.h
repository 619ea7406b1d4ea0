#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace fettle::kernels {

enum class RopeStyle : uint8_t {
  kHalves,  // pairs (d, d + rot / 2): "rotate half", Hugging Face checkpoints
  kPairs,   // pairs (2 d, 2 d + 1): GPT-J, GGUF Llama
};

// Rotary position embedding in place. x: [tokens, heads * head_dim] f32; positions: [tokens], each < cos.rows;
// cos, sin: [max_positions, rot / 2] with any attention scaling folded in; only the first rot of each head's dimensions
// turn (partial rotary).  (a, b) -> (a cos - b sin, b cos + a sin).
// Throws kInternal when shapes disagree or a position has no row.
void rope(MatView<float> x, size_t heads, std::span<const uint32_t> positions, MatView<const float> cos,
          MatView<const float> sin, RopeStyle style);

}  // namespace fettle::kernels
