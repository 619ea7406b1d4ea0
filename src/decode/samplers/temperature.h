#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Divides the logits by `temperature`; at or below 0 only the arg-max stays.
void scale_temperature(Candidates& c, double temperature);

// Dynamic temperature: T' = T_min + (T_max - T_min) * (H(p) / ln n)^exponent with T_min = max(0, temperature - range),
// T_max = temperature + range and n candidates, in F32 as llama.cpp computes it. Sorts all candidates: best placed
// after a truncation. range <= 0 is plain temperature; one candidate is left as it is.
void scale_dynamic_temperature(Candidates& c, double temperature, double range, double exponent);

}  // namespace fettle::decoding
