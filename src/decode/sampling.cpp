#include "decode/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"
#include "base/random.h"
#include "decode/samplers/registry.h"

namespace fettle::decoding {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr float kBanBias = -100;  // OpenAI's lowest value means "never"

void check_finite(std::span<const float> logits) {
  // One pass without an early exit, which the compiler vectorises; the culprit is looked up only when there is one.
  bool bad = false;
  for (float x : logits) bad |= !(x < std::numeric_limits<float>::infinity());
  if (!bad) return;
  for (size_t i = 0; i < logits.size(); ++i)
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity())
      fail(ErrorCode::kNumeric, "logit of token {} is {}", i, logits[i]);
}

int32_t argmax(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best]) best = i;
  if (logits.empty() || logits[best] == kBanned) fail(ErrorCode::kNumeric, "no admissible token");
  return static_cast<int32_t>(best);
}

}  // namespace

double draw_uniform(int64_t seed, uint32_t choice, uint64_t position, DrawStream stream) {
  const auto key = static_cast<uint64_t>(seed);
  const auto bits = philox4x32(
      {choice, static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), static_cast<uint32_t>(stream)},
      {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
  return static_cast<double>((static_cast<uint64_t>(bits[0]) << 21) ^ (bits[1] >> 11)) * 0x1p-53;
}

Sampler::Sampler(SamplingParams params, int64_t vocab_size, uint32_t choice)
    : params_(std::move(params)), vocab_size_(vocab_size), choice_(choice) {
  validate(params_, vocab_size_);
  seed_ = params_.seed ? *params_.seed : static_cast<int64_t>(std::random_device{}());
  chain_ = build_chain(params_);
  dry_ = {params_.dry_multiplier, params_.dry_base, params_.dry_allowed_length, params_.dry_penalty_last_n,
          params_.dry_breakers};
  mirostat_ = start_mirostat(params_.mirostat_tau, params_.mirostat_eta);
}

std::string Sampler::chain() const {
  std::string names;
  for (const SamplerInfo* s : chain_) names += (names.empty() ? "" : ";") + std::string(s->name);
  if (params_.temperature == 0) return names + (names.empty() ? "greedy" : ";greedy");
  if (params_.mirostat != 0) names += fmt::format("{}mirostat_v{}", names.empty() ? "" : ";", params_.mirostat);
  return names;
}

// What is no sampler but the request's own: bias, bans and the least length.
void Sampler::process_row(std::span<float> logits, std::span<const int32_t> history) {
  for (const auto& [id, bias] : params_.logit_bias) {
    float& x = logits[static_cast<size_t>(id)];
    x = bias <= kBanBias ? kBanned : x + bias;
  }
  if (!prompt_tokens_) prompt_tokens_ = history.size();
  if (history.size() < *prompt_tokens_ + static_cast<size_t>(params_.min_tokens))
    for (int32_t id : params_.stop_ids) logits[static_cast<size_t>(id)] = kBanned;
}

int32_t Sampler::sample(std::span<float> logits, std::span<const int32_t> history, uint64_t position) {
  FETTLE_CHECK(static_cast<int64_t>(logits.size()) >= vocab_size_);  // ids were checked against it
  check_finite(logits);
  process_row(logits, history);
  top_h_report_.reset();
  const bool greedy = params_.temperature == 0;
  const StepContext context{params_,
                            dry_,
                            history,
                            history.subspan(std::min(*prompt_tokens_, history.size())),
                            draw_uniform(seed_, choice_, position, DrawStream::kXtc),
                            &top_h_report_};
  bool started = false;  // candidates exist; before that, logit processors work on the row alone
  for (const SamplerInfo* step : chain_) {
    if (step->process != nullptr) {
      if (started)
        candidates_.edit_row([&](std::span<float> row) { step->process(row, context); });
      else
        step->process(logits, context);
      continue;
    }
    if (greedy) continue;
    if (!started) candidates_.reset(logits);
    started = true;
    if (candidates_.empty()) break;
    step->apply(candidates_, context);
  }
  if (greedy) {
    const int32_t best = argmax(logits);
    candidates_.replace({{logits[static_cast<size_t>(best)], best}});
    return best;
  }
  if (!started) candidates_.reset(logits);
  if (candidates_.empty()) fail(ErrorCode::kNumeric, "no admissible token");
  if (params_.mirostat == 1) keep_mirostat_v1(candidates_, mirostat_, vocab_size_);
  if (params_.mirostat == 2) keep_mirostat_v2(candidates_, mirostat_);
  const size_t drawn = draw(position);
  if (params_.mirostat != 0) update_mirostat(mirostat_, candidates_, drawn);
  return candidates_[drawn].id;
}

// Smallest j whose cumulated probability, in canonical order, exceeds the uniform number.
size_t Sampler::draw(uint64_t position) {
  candidates_.sort(1);
  const SoftmaxStats s = candidates_.stats();
  double left = draw_uniform(seed_, choice_, position, DrawStream::kToken) * s.z;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    candidates_.sort(i + 1);
    left -= candidates_.weight(i, s.max);
    if (left < 0) return i;
  }
  return candidates_.size() - 1;
}

std::vector<std::pair<int32_t, double>> Sampler::remaining(size_t n) {
  n = std::min(n, candidates_.size());
  std::vector<std::pair<int32_t, double>> out;
  if (n == 0) return out;
  candidates_.sort(n);
  const SoftmaxStats s = candidates_.stats();
  for (size_t i = 0; i < n; ++i) out.emplace_back(candidates_[i].id, candidates_.weight(i, s.max) / s.z);
  return out;
}

}  // namespace fettle::decoding
