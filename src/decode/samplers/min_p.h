#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Min-p (Nguyen et al., ICLR 2025): keeps tokens with p >= min_p * p_max, at least min_keep. min_p <= 0 keeps all.
void keep_min_p(Candidates& c, double min_p, size_t min_keep);

}  // namespace fettle::decoding
