#pragma once

#include <span>

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Exclude top choices (p-e-w, 2024): of the tokens with p >= threshold, removes all but the least likely. Does nothing
// when threshold > 0.5 or when fewer than min_keep tokens would remain. The caller draws whether it fires.
// `keep_ids` are never removed (front ends list end-of-text and newline here).
void exclude_top_choices(Candidates& c, double threshold, size_t min_keep, std::span<const int32_t> keep_ids = {});

}  // namespace fettle::decoding
