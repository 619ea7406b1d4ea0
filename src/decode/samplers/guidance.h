#pragma once

#include <span>

namespace fettle::decoding {

// Classifier-free guidance (Sanchez et al., 2023): on log-softmax values, row = u + scale * (row - u), where `row`
// holds the logits with the prompt and `unconditional` [V] those without it. Scale 1 gives the log-softmax of the row.
void apply_guidance(std::span<float> row, std::span<const float> unconditional, double scale);

}  // namespace fettle::decoding
