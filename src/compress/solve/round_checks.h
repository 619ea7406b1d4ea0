#pragma once

#include "compress/solve/gptq.h"

namespace fettle::compress {

// kInput unless w, h and the grid have one shape; kNumeric when w or h holds NaN or infinity.
void check_problem(MatView<const float> w, MatView<const float> h, const Grid& grid);

// tr(dW H dW^T) / tr(W H W^T); 0 when the denominator is 0.
double relative_objective(MatView<const float> w, MatView<const float> h, const Grid& grid,
                          std::span<const uint8_t> codes, ThreadPool& pool);

// Appends to the note when the objective exceeds that of rounding to nearest by more than 0.1 %.
void note_if_worse(RoundReport* report);

}  // namespace fettle::compress
