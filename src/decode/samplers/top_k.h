#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Keeps the k best tokens; k <= 0 keeps all. keep_ties (Hugging Face) also keeps every token whose logit equals that of
// the k-th; llama.cpp keeps exactly k.
void keep_top_k(Candidates& c, int64_t k, bool keep_ties);

}  // namespace fettle::decoding
