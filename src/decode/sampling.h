#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "decode/samplers/candidates.h"
#include "decode/samplers/dry.h"
#include "decode/samplers/mirostat.h"
#include "decode/samplers/top_h.h"

namespace fettle::decoding {

struct SamplerInfo;

// Whose habits the chain follows. kLlama (llama.cpp): truncation on untempered probabilities, temperature last, exactly
// k tokens in top-k. kHf (Transformers): temperature first, then truncation; ties with the last token stay.
enum class SamplerOrder { kLlama, kHf };
SamplerOrder parse_sampler_order(std::string_view name);  // "llama", "hf"; throws kUsage

// Sampling settings with the names and defaults users know. docs/samplers.md defines each; samplers/registry.cpp holds
// the order of both presets. Temperature 0 is greedy: logit processors, then arg-max.
struct SamplingParams {
  float temperature = 0.8f;                           // [0, 100]; 0 = greedy
  int top_k = 40;                                     // <= 0 = off
  float top_p = 0.95f;                                // (0, 1]; 1 = off
  float min_p = 0.05f;                                // [0, 1]; 0 = off
  float repetition_penalty = 1;                       // (0, 10]; 1 = off
  float presence_penalty = 0;                         // [-2, 2]
  float frequency_penalty = 0;                        // [-2, 2]
  int penalty_last_n = 64;                            // tokens looked back at; -1 = all, 0 = off
  std::vector<std::pair<int32_t, float>> logit_bias;  // value in [-100, 100]; -100 = ban
  std::optional<int64_t> seed;

  SamplerOrder order = SamplerOrder::kLlama;
  std::vector<std::string> samplers;  // names in the order they run; empty = the preset of `order`
  int min_keep = 1;                   // >= 0; tokens that truncation leaves at least (0 and 1 are the same)

  float typical_p = 1;       // (0, 1]; 1 = off
  float top_n_sigma = -1;    // [0, 100]; -1 = off
  float tfs_z = 1;           // (0, 1]; 1 = off
  float epsilon_cutoff = 0;  // [0, 1); 0 = off
  float eta_cutoff = 0;      // [0, 1); 0 = off

  float top_h = 0;  // [0, 1], alpha; 0 = off
  TopHMode top_h_mode = TopHMode::kPaper;

  float xtc_probability = 0;          // [0, 1]; 0 = off
  float xtc_threshold = 0.1f;         // [0, 1]; above 0.5 = off
  std::vector<int32_t> xtc_keep_ids;  // never removed by XTC

  float dynatemp_range = 0;  // [0, 100]; 0 = off
  float dynatemp_exponent = 1;

  float dry_multiplier = 0;  // [0, 100]; 0 = off
  float dry_base = 1.75f;    // [1, 100]
  int dry_allowed_length = 2;
  int dry_penalty_last_n = -1;                     // -1 = all, 0 = off
  std::vector<std::vector<int32_t>> dry_breakers;  // token sequences; see dry_breaker_tokens

  int mirostat = 0;  // 0 = off, 1, 2: replaces the truncating samplers
  float mirostat_tau = 5;
  float mirostat_eta = 0.1f;

  int no_repeat_ngram_size = 0;  // 0 = off
  bool penalize_prompt = true;   // false: presence and frequency count generated tokens only (OpenAI)
  int min_tokens = 0;            // until so many are generated, stop_ids are impossible
  std::vector<int32_t> stop_ids;
};

// Throws kUsage naming the parameter, its range and the value found.
void validate(const SamplingParams& params, int64_t vocab_size);

// One uniform number in [0, 1), a pure function of its arguments: Philox4x32-10 with key = seed and counter = (choice,
// position, stream). It cannot depend on the batch, on threads or on how many numbers were drawn before.
enum class DrawStream : uint32_t { kToken = 0, kXtc = 1, kSpeculative = 2 };
double draw_uniform(int64_t seed, uint32_t choice, uint64_t position, DrawStream stream);

// Draws the next token, deterministic in (params.seed, choice, position) and in the tokens before. Equal logits: lower
// id first. Throws kNumeric when a logit is NaN or +inf or none is admissible. A copy continues independently.
class Sampler {
 public:
  Sampler(SamplingParams params, int64_t vocab_size, uint32_t choice = 0);
  // logits: [V] f32, changed in place. history: prompt and generated tokens so far; its length at the first call counts
  // as the prompt.
  int32_t sample(std::span<float> logits, std::span<const int32_t> history, uint64_t position);
  int64_t seed() const { return seed_; }

  // The samplers that run, in order, as "penalties;top_k;temperature": what a user may want to see echoed.
  std::string chain() const;
  // After sample(): what the draw chose from, most probable first, with its probabilities (at most n).
  std::vector<std::pair<int32_t, double>> remaining(size_t n = SIZE_MAX);
  // After sample() with top_h on: what it kept.
  const std::optional<TopHReport>& top_h_report() const { return top_h_report_; }

 private:
  void process_row(std::span<float> logits, std::span<const int32_t> history);
  size_t draw(uint64_t position);

  SamplingParams params_;
  int64_t vocab_size_;
  uint32_t choice_;
  int64_t seed_;
  std::vector<const SamplerInfo*> chain_;
  Dry dry_;
  Mirostat mirostat_;
  std::optional<size_t> prompt_tokens_;
  std::optional<TopHReport> top_h_report_;
  Candidates candidates_;
};

}  // namespace fettle::decoding
