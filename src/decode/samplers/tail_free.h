#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Tail-free sampling (Phénix and Egan, 2019). With probabilities sorted, d1_i = p_i - p_{i+1} and
// d2_i = |d1_i - d1_{i+1}| normalised to sum 1 (uniform when the sum is at most 1e-6): keeps i tokens for the first
// i >= min_keep (counted from 0) whose cumulated d2 exceeds z. z >= 1 and fewer than 3 tokens keep all. Sorts
// everything.
void keep_tail_free(Candidates& c, double z, size_t min_keep);

}  // namespace fettle::decoding
