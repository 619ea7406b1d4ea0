#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "decode/sampling.h"
#include "program.h"

namespace fettle::cli {

// Flags of the samplers beyond temperature, top-k, top-p, min-p and penalties; llama.cpp's names. NaN and empty: not
// given.
struct SamplerFlags {
  double typical = NAN, top_n_sigma = NAN, tfs = NAN, epsilon = NAN, eta = NAN, top_h = NAN;
  double xtc_probability = NAN, xtc_threshold = NAN, dynatemp_range = NAN, dynatemp_exponent = NAN;
  double dry_multiplier = NAN, dry_base = NAN, mirostat_lr = NAN, mirostat_ent = NAN;
  int64_t dry_allowed_length = 2, dry_last_n = -1, mirostat = 0, no_repeat_ngram = 0, min_keep = 1;
  std::string top_h_mode, order, samplers, letters;
};
void add_samplers(Command& command, SamplerFlags& flags);
// Overwrites what was given. Throws kUsage for values that have no meaning.
void apply_samplers(const SamplerFlags& flags, decoding::SamplingParams& params);

}  // namespace fettle::cli
