// The ranges of every sampling parameter, with messages that name parameter, range and value.
#include "base/error.h"
#include "decode/samplers/registry.h"
#include "decode/sampling.h"

namespace fettle::decoding {
namespace {

void require(bool ok, const char* name, double found, const char* range) {
  if (!ok) fail(ErrorCode::kUsage, "{}: expected {}, found {}", name, range, found);
}

void require_within(const char* name, double x, double low, double high) {
  if (!(x >= low && x <= high))
    fail(ErrorCode::kUsage, "{}: expected a number in [{}, {}], found {}", name, low, high, x);
}

// (0, 1], 1 being off.
void require_share(const char* name, double x) { require(x > 0 && x <= 1, name, x, "a number in (0, 1]"); }

void require_id(const char* name, int32_t id, int64_t vocab_size) {
  require(id >= 0 && id < vocab_size, name, id, "an id below the vocabulary size");
}

void validate_truncation(const SamplingParams& p) {
  require(p.top_k >= -1, "top_k", p.top_k, "-1 or 0 (off) or a positive count");
  require_share("top_p", p.top_p);
  require_within("min_p", p.min_p, 0, 1);
  require_share("typical_p", p.typical_p);
  require_share("tfs_z", p.tfs_z);
  require(p.top_n_sigma == -1 || (p.top_n_sigma >= 0 && p.top_n_sigma <= 100), "top_n_sigma", p.top_n_sigma,
          "-1 (off) or a number in [0, 100]");
  require(p.epsilon_cutoff >= 0 && p.epsilon_cutoff < 1, "epsilon_cutoff", p.epsilon_cutoff, "a number in [0, 1)");
  require(p.eta_cutoff >= 0 && p.eta_cutoff < 1, "eta_cutoff", p.eta_cutoff, "a number in [0, 1)");
  require_within("top_h", p.top_h, 0, 1);
  require_within("xtc_probability", p.xtc_probability, 0, 1);
  require_within("xtc_threshold", p.xtc_threshold, 0, 1);
  require(p.min_keep >= 0, "min_keep", p.min_keep, "0 or a positive count");
}

void validate_temperature(const SamplingParams& p) {
  require_within("temperature", p.temperature, 0, 100);
  require_within("dynatemp_range", p.dynatemp_range, 0, 100);
  require_within("dynatemp_exponent", p.dynatemp_exponent, 0, 100);
  require(p.mirostat >= 0 && p.mirostat <= 2, "mirostat", p.mirostat, "0 (off), 1 or 2");
  require_within("mirostat_tau", p.mirostat_tau, 0, 100);
  require_within("mirostat_eta", p.mirostat_eta, 0, 1);
}

void validate_penalties(const SamplingParams& p) {
  require(p.repetition_penalty > 0 && p.repetition_penalty <= 10, "repetition_penalty", p.repetition_penalty,
          "a number in (0, 10]");
  require_within("presence_penalty", p.presence_penalty, -2, 2);
  require_within("frequency_penalty", p.frequency_penalty, -2, 2);
  require(p.penalty_last_n >= -1, "penalty_last_n", p.penalty_last_n, "-1 (all), 0 (off) or a positive count");
  require_within("dry_multiplier", p.dry_multiplier, 0, 100);
  require_within("dry_base", p.dry_base, 1, 100);
  require(p.dry_allowed_length >= 0, "dry_allowed_length", p.dry_allowed_length, "0 or a positive count");
  require(p.dry_penalty_last_n >= -1, "dry_penalty_last_n", p.dry_penalty_last_n,
          "-1 (all), 0 (off) or a positive count");
  require(p.no_repeat_ngram_size >= 0, "no_repeat_ngram_size", p.no_repeat_ngram_size, "0 (off) or a positive count");
  require(p.min_tokens >= 0, "min_tokens", p.min_tokens, "0 or a positive count");
}

void validate_ids(const SamplingParams& p, int64_t vocab_size) {
  for (const auto& [id, bias] : p.logit_bias) {
    require_id("logit_bias token id", id, vocab_size);
    require_within("logit_bias value", bias, -100, 100);
  }
  for (int32_t id : p.stop_ids) require_id("stop_ids", id, vocab_size);
  for (int32_t id : p.xtc_keep_ids) require_id("xtc_keep_ids", id, vocab_size);
  for (const auto& breaker : p.dry_breakers) {
    require(!breaker.empty(), "dry_breakers", 0, "token sequences of at least one token");
    for (int32_t id : breaker) require_id("dry_breakers", id, vocab_size);
  }
}

}  // namespace

SamplerOrder parse_sampler_order(std::string_view name) {
  if (name == "llama") return SamplerOrder::kLlama;
  if (name == "hf") return SamplerOrder::kHf;
  fail(ErrorCode::kUsage, "order: expected llama or hf, found '{}'", printable(name));
}

void validate(const SamplingParams& p, int64_t vocab_size) {
  validate_truncation(p);
  validate_temperature(p);
  validate_penalties(p);
  validate_ids(p, vocab_size);
  build_chain(p);  // refuses unknown names
}

}  // namespace fettle::decoding
