#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Locally typical sampling (Meister et al., TACL 2023): orders tokens by |-ln p - H(p)| ascending and keeps the
// smallest prefix whose mass exceeds p (llama.cpp) or, with keep_ties, reaches p plus every token with the score of the
// last one (Hugging Face). At least min_keep tokens and at least one; p >= 1 keeps all.
void keep_typical(Candidates& c, double p, size_t min_keep, bool keep_ties);

}  // namespace fettle::decoding
