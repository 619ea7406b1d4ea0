#include "decode/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <unordered_map>

#include "base/error.h"
#include "base/random.h"

namespace fettle::decoding {
namespace {

using Candidate = std::pair<float, int32_t>;  // logit, token id

void require(bool ok, const char* name, double found, const char* range) {
  if (!ok) fail(ErrorCode::kUsage, "{}: expected {}, found {}", name, range, found);
}

bool better(const Candidate& a, const Candidate& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

void check_finite(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i)
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity())
      fail(ErrorCode::kNumeric, "logit of token {} is {}", i, logits[i]);
}

// Hugging Face's repetition rule (divide or multiply by sign) and OpenAI's additive presence and frequency rules.
void apply_penalties(const SamplingParams& p, std::span<float> logits, std::span<const int32_t> history) {
  const bool active = p.repetition_penalty != 1.0f || p.presence_penalty != 0.0f || p.frequency_penalty != 0.0f;
  if (!active || p.penalty_last_n == 0) return;
  if (p.penalty_last_n > 0 && history.size() > static_cast<size_t>(p.penalty_last_n))
    history = history.last(static_cast<size_t>(p.penalty_last_n));
  std::unordered_map<int32_t, int> counts;
  for (int32_t id : history) ++counts[id];
  for (const auto& [id, count] : counts) {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    float& x = logits[static_cast<size_t>(id)];
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    x -= static_cast<float>(count) * p.frequency_penalty + p.presence_penalty;
  }
}

int32_t argmax(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best]) best = i;
  if (logits[best] == -std::numeric_limits<float>::infinity()) fail(ErrorCode::kNumeric, "no admissible token");
  return static_cast<int32_t>(best);
}

// Smallest prefix of the sorted candidates whose probability reaches top_p; at least one.
void keep_top_p(std::vector<Candidate>& c, float top_p) {
  double total = 0;
  for (const Candidate& x : c) total += std::exp(static_cast<double>(x.first) - c[0].first);
  double sum = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    sum += std::exp(static_cast<double>(c[i].first) - c[0].first);
    if (sum >= static_cast<double>(top_p) * total) {
      c.resize(i + 1);
      return;
    }
  }
}

// p >= min_p * p_max, in logits: x - max >= ln(min_p).
void keep_min_p(std::vector<Candidate>& c, float min_p) {
  const double cut = static_cast<double>(c[0].first) + std::log(static_cast<double>(min_p));
  size_t n = 1;
  while (n < c.size() && static_cast<double>(c[n].first) >= cut) ++n;
  c.resize(n);
}

}  // namespace

void validate(const SamplingParams& p, int64_t vocab_size) {
  require(p.temperature >= 0 && p.temperature <= 100, "temperature", p.temperature, "a number in [0, 100]");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "a number in (0, 1]");
  require(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "a number in [0, 1]");
  require(p.top_k >= -1, "top_k", p.top_k, "-1 or 0 (off) or a positive count");
  require(p.repetition_penalty > 0 && p.repetition_penalty <= 10, "repetition_penalty", p.repetition_penalty,
          "a number in (0, 10]");
  require(p.presence_penalty >= -2 && p.presence_penalty <= 2, "presence_penalty", p.presence_penalty,
          "a number in [-2, 2]");
  require(p.frequency_penalty >= -2 && p.frequency_penalty <= 2, "frequency_penalty", p.frequency_penalty,
          "a number in [-2, 2]");
  require(p.penalty_last_n >= -1, "penalty_last_n", p.penalty_last_n, "-1 (all), 0 (off) or a positive count");
  for (const auto& [id, bias] : p.logit_bias) {
    require(id >= 0 && id < vocab_size, "logit_bias token id", id, "an id below the vocabulary size");
    require(bias >= -100 && bias <= 100, "logit_bias value", bias, "a number in [-100, 100]");
  }
}

Sampler::Sampler(SamplingParams params, int64_t vocab_size, uint32_t choice)
    : params_(std::move(params)), vocab_size_(vocab_size), choice_(choice) {
  validate(params_, vocab_size_);
  seed_ = params_.seed ? *params_.seed : static_cast<int64_t>(std::random_device{}());
}

int32_t Sampler::sample(std::span<float> logits, std::span<const int32_t> history, uint64_t position) {
  check_finite(logits);
  for (const auto& [id, bias] : params_.logit_bias) logits[static_cast<size_t>(id)] += bias;
  apply_penalties(params_, logits, history);
  if (params_.temperature == 0) return argmax(logits);

  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] != -std::numeric_limits<float>::infinity())
      candidates_.emplace_back(logits[i], static_cast<int32_t>(i));
  if (candidates_.empty()) fail(ErrorCode::kNumeric, "no admissible token");
  const size_t k =
      params_.top_k > 0 ? std::min<size_t>(static_cast<size_t>(params_.top_k), candidates_.size()) : candidates_.size();
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(k), candidates_.end(), better);
  candidates_.resize(k);
  if (params_.top_p < 1) keep_top_p(candidates_, params_.top_p);
  if (params_.min_p > 0) keep_min_p(candidates_, params_.min_p);

  const double inverse = 1.0 / static_cast<double>(params_.temperature);
  double total = 0;
  for (const Candidate& c : candidates_)
    total += std::exp((static_cast<double>(c.first) - candidates_[0].first) * inverse);
  const auto seed = static_cast<uint64_t>(seed_);
  const auto bits = philox4x32({choice_, static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0},
                               {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const double uniform = static_cast<double>((static_cast<uint64_t>(bits[0]) << 21) ^ (bits[1] >> 11)) * 0x1p-53;
  double left = uniform * total;
  for (const Candidate& c : candidates_) {
    left -= std::exp((static_cast<double>(c.first) - candidates_[0].first) * inverse);
    if (left < 0) return c.second;
  }
  return candidates_.back().second;
}

}  // namespace fettle::decoding
