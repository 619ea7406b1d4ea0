#pragma once

#include "compress/method.h"

namespace fettle::compress {

// SINQ (arXiv 2509.22944): columns are divided by the factors of the modified Sinkhorn iteration (tensor/sinq), tiles
// of one group, and what remains is rounded to nearest (methods/rtn.h), where group scales absorb the row factors. The
// column factors are stored beside the codes (PackedWeight::input.col_scales) and multiply the activations.
PackedWeight quantise_sinq(const LayerJob& job);

// Columns per Sinkhorn tile: the format's groups, 64 for formats without groups of a useful width.
int64_t sinq_tile(const LayerJob& job);

// The same with given column factors [K]: calibrated searches (methods/asinq.h) end here.
PackedWeight quantise_with_factors(const LayerJob& job, std::span<const float> factors);

}  // namespace fettle::compress
