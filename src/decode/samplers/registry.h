#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "decode/sampling.h"

namespace fettle::decoding {

// What a step may look at.
struct StepContext {
  const SamplingParams& params;
  const Dry& dry;
  std::span<const int32_t> history;    // prompt and generated tokens
  std::span<const int32_t> generated;  // the latter only
  double xtc_draw = 0;                 // uniform, stream kXtc
  std::optional<TopHReport>* top_h_report = nullptr;
};

// One sampler of the chain. Exactly one of `process` (changes logits) and `apply` (removes or scales candidates) is
// set.
struct SamplerInfo {
  std::string_view name;     // as in --samplers and in requests
  std::string_view aliases;  // other spellings, separated by blanks
  char letter;               // llama.cpp's --sampler-seq, 0 when it has none
  std::string_view summary;
  bool (*active)(const SamplingParams&);  // false: the step would change nothing
  void (*process)(std::span<float> row, const StepContext&);
  void (*apply)(Candidates&, const StepContext&);
};

std::span<const SamplerInfo> samplers();  // alphabetical

// nullptr when unknown. Dashes and underscores are the same.
const SamplerInfo* find_sampler(std::string_view name);

// The steps that `params` asks for, without those that would change nothing. Throws kUsage for an unknown name.
std::vector<const SamplerInfo*> build_chain(const SamplingParams& params);

// "top_k;top_p;temperature" (or with commas) and llama.cpp's letters "kpt", as names. Throw kUsage for unknown ones.
std::vector<std::string> parse_sampler_names(std::string_view text);
std::vector<std::string> parse_sampler_letters(std::string_view text);

}  // namespace fettle::decoding
