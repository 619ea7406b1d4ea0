#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Nucleus sampling (Holtzman et al., ICLR 2020): the smallest prefix whose probability reaches p, at least min_keep
// tokens and at least one. p >= 1 keeps all.
void keep_top_p(Candidates& c, double p, size_t min_keep);

}  // namespace fettle::decoding
