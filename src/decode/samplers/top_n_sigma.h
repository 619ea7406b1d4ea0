#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Top-n-sigma (Tang et al., ACL 2025): keeps l >= l_max - n * sigma, sigma = population standard deviation of the
// logits still in play. Does not depend on the temperature. n < 0 keeps all; always keeps at least one.
void keep_top_n_sigma(Candidates& c, double n);

}  // namespace fettle::decoding
