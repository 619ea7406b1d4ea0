#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Truncation by absolute probability (Hewitt et al., EMNLP 2022); both keep at least min_keep tokens and at least one.
// epsilon: p >= eps. eta: p >= min(eps, sqrt(eps) * exp(-H(p))). 0 keeps all.
void keep_epsilon(Candidates& c, double eps, size_t min_keep);
void keep_eta(Candidates& c, double eps, size_t min_keep);

}  // namespace fettle::decoding
