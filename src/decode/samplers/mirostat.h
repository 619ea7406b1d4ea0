#pragma once

#include "decode/samplers/candidates.h"

namespace fettle::decoding {

// Mirostat (Basu et al., ICLR 2021): feedback that holds the surprise of the drawn tokens, in bits, at tau. A
// sequence's state is mu, the present bound; it starts at 2 tau.
struct Mirostat {
  double tau = 5;  // target surprise, bits
  double eta = 0.1;
  double mu = 10;
};
constexpr Mirostat start_mirostat(double tau, double eta) { return {tau, eta, 2 * tau}; }

// Version 1: estimates the Zipf exponent s from the m best tokens and keeps the top k that gives surprise mu;
// vocab_size is V of the formula.
void keep_mirostat_v1(Candidates& c, const Mirostat& state, int64_t vocab_size, size_t m = 100);
// Version 2: keeps tokens with -log2 p <= mu, at least one.
void keep_mirostat_v2(Candidates& c, const Mirostat& state);

// After token i of the remaining candidates was drawn: mu -= eta * (surprise - tau).
void update_mirostat(Mirostat& state, const Candidates& c, size_t i);

}  // namespace fettle::decoding
