#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace fettle::decoding {

// Sampling settings with the names and defaults users know. Order of steps: logit bias, repetition / presence /
// frequency penalties, then temperature 0 = arg-max, else top-k, top-p, min-p on the remaining candidates, temperature,
// draw (llama.cpp's order: truncation on untempered probabilities, temperature last).
struct SamplingParams {
  float temperature = 0.8f;                           // [0, 100]; 0 = greedy
  int top_k = 40;                                     // <= 0 = off
  float top_p = 0.95f;                                // (0, 1]; 1 = off
  float min_p = 0.05f;                                // [0, 1]; 0 = off
  float repetition_penalty = 1;                       // (0, 10]; 1 = off
  float presence_penalty = 0;                         // [-2, 2]
  float frequency_penalty = 0;                        // [-2, 2]
  int penalty_last_n = 64;                            // tokens looked back at; -1 = all, 0 = off
  std::vector<std::pair<int32_t, float>> logit_bias;  // value in [-100, 100]
  std::optional<int64_t> seed;
};

// Throws kUsage naming the parameter, its range and the value found.
void validate(const SamplingParams& params, int64_t vocab_size);

// Draws the next token. Deterministic in (params.seed, choice, position): Philox4x32-10 with key = seed and counter =
// (choice, position). Equal logits: lower id first. Throws kNumeric when a logit is NaN or +inf or none is admissible.
class Sampler {
 public:
  Sampler(SamplingParams params, int64_t vocab_size, uint32_t choice = 0);
  // logits: [V] f32, changed in place. history: prompt and generated tokens so far.
  int32_t sample(std::span<float> logits, std::span<const int32_t> history, uint64_t position);
  int64_t seed() const { return seed_; }

 private:
  SamplingParams params_;
  int64_t vocab_size_;
  uint32_t choice_;
  int64_t seed_;
  std::vector<std::pair<float, int32_t>> candidates_;
};

}  // namespace fettle::decoding
