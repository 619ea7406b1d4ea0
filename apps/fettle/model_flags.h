#pragma once

#include <cmath>
#include <limits>
#include <memory>

#include "context.h"
#include "decode/sampling.h"
#include "engine/engine.h"
#include "sampler_flags.h"

namespace fettle::cli {

// How a model is loaded and how much context it gets.
struct ModelFlags {
  std::string model, activations = "a16", kv_type = "bf16", residency = "auto";
  int64_t context = 0, batch = 512;
  bool strict = false, no_generation_config = false;
};
void add_model(Command& command, ModelFlags& flags);    // MODEL and --act, --strict
void add_context(Command& command, ModelFlags& flags);  // -c, -b, -ctk
std::shared_ptr<const engine::Llm> load_model(const ModelFlags& flags, ThreadPool& pool);
engine::EngineOptions engine_options(const ModelFlags& flags, const engine::Llm& llm);
DType kv_dtype(const ModelFlags& flags);

// Sampling flags; what the user does not give comes from the checkpoint's generation_config.json.
struct SamplingFlags {
  static constexpr int64_t kUnset = std::numeric_limits<int64_t>::min();
  double temperature = NAN, top_p = NAN, min_p = NAN;
  double repetition_penalty = NAN, presence_penalty = NAN, frequency_penalty = NAN;
  int64_t top_k = kUnset, seed = kUnset, penalty_last_n = kUnset;
  std::vector<std::string> logit_bias, stop;
  int64_t max_tokens = -1;
  bool ignore_eos = false, show_special = false;
  SamplerFlags samplers;
};
void add_sampling(Command& command, SamplingFlags& flags);
// Fills sampling, stop, max_tokens of a request. Throws kUsage for values out of range.
void apply_sampling(const SamplingFlags& flags, const engine::Llm& llm, engine::Request& request);

// Runs one request to its end, one engine step at a time, so that Ctrl-C stops it between tokens; the result then has
// finish_reason cancelled.
engine::Result run_request(engine::Engine& engine, engine::Request request, const CancelToken& cancel);

// "prompt: 12 tokens, 345.67 tokens/s" lines for --verbose.
std::string speed_lines(const engine::Result& result);

}  // namespace fettle::cli
