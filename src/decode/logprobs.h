#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fettle::decoding {

struct TokenLogprob {
  int32_t id = 0;
  double logprob = 0;  // natural logarithm; -inf when impossible
  size_t rank = 0;     // 0 = most probable
};

struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // canonical order
};

// ln sum exp(row), -inf for a row of -inf.
double log_sum_exp(std::span<const float> row);

// Log-probabilities under softmax(row) of one token and of the n most probable ones, F64 sums. Call it before
// Sampler::sample, which changes the row, for the model's own values; those of the truncated distribution come from
// Sampler::remaining. Throws kUsage for an id outside the row.
Logprobs token_logprobs(std::span<const float> row, int32_t chosen, size_t n);

}  // namespace fettle::decoding
