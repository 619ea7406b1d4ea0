#include "model_flags.h"

#include <charconv>
#include <chrono>

#include "base/log.h"
#include "models/model.h"

namespace fettle::cli {

void add_model(Command& c, ModelFlags& f) {
  c.positional("MODEL", &f.model, "directory, .gguf file or hub id");
  c.option("--act", &f.activations, "MODE",
           "activations in products with quantised weights: a16 exact enough to ignore, "
           "a8 faster (default a16)")
      .choices({"a16", "a8"});
  c.option("--residency", &f.residency, "FORM",
           "how bf16 weights stay in memory, same results: auto (fx3 for df11 and fx3 checkpoints, else as stored), "
           "bf16, fx3 (default auto)")
      .choices({"auto", "bf16", "fx3"});
  c.toggle("--strict", &f.strict, "refuse tensors that the architecture does not have");
}

void add_context(Command& c, ModelFlags& f) {
  c.option("-c,--max-model-len,--ctx-size", &f.context, "N", "context in tokens (default: the model's, at most 8192)");
  c.option("-b,-ub,--batch-size", &f.batch, "N", "prompt tokens per forward pass (default 512)");
  c.option("-ctk,-ctv,--kv-cache-dtype,--cache-type", &f.kv_type, "TYPE",
           "type of cached keys and values (default bf16)")
      .choices({"f32", "bf16", "int8"});
  c.toggle("--no-generation-config", &f.no_generation_config, "ignore the checkpoint's sampling defaults");
}

DType kv_dtype(const ModelFlags& f) {
  return f.kv_type == "f32" ? DType::kF32 : f.kv_type == "int8" ? DType::kI8 : DType::kBF16;
}

std::shared_ptr<const engine::Llm> load_model(const ModelFlags& f, ThreadPool& pool) {
  const auto start = std::chrono::steady_clock::now();
  engine::Llm::Options options;
  options.load.activations = f.activations == "a8" ? kernels::ActMode::kA8 : kernels::ActMode::kA16;
  options.load.strict = f.strict;
  options.load.residency = f.residency == "fx3"    ? models::Residency::kFx3
                           : f.residency == "bf16" ? models::Residency::kBf16
                                                   : models::Residency::kAuto;
  if (f.context != 0)
    options.load.context = static_cast<int64_t>(in_range("--ctx-size", f.context, 1, int64_t{1} << 30));
  options.generation_config = !f.no_generation_config;
  auto llm = engine::Llm::load(f.model, options, pool);
  log_debug("{}: loaded in {:.2f} s, {} of weights", f.model,
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
            human_bytes(static_cast<double>(llm->model().weight_bytes())));
  return llm;
}

engine::EngineOptions engine_options(const ModelFlags& f, const engine::Llm&) {
  engine::EngineOptions o;
  o.context = f.context == 0 ? 0 : in_range("--ctx-size", f.context, 1, int64_t{1} << 30);
  o.max_seqs = 1;
  o.prefill_chunk = in_range("--batch-size", f.batch, 1, 1 << 16);
  o.kv_dtype = kv_dtype(f);
  return o;
}

void add_sampling(Command& c, SamplingFlags& f) {
  c.option("-n,--predict,--max-tokens", &f.max_tokens, "N",
           "tokens to generate; -1 = until the model ends (default -1)");
  c.option("-s,--seed", &f.seed, "N", "seed of the draws (default: a new one, printed with --verbose)");
  c.option("--temp,--temperature", &f.temperature, "X", "0 = always the most probable token");
  c.option("--top-k", &f.top_k, "N", "keep the N most probable tokens; 0 = all");
  c.option("--top-p", &f.top_p, "X", "keep the smallest set of probability X; 1 = all");
  c.option("--min-p", &f.min_p, "X", "drop tokens below X times the most probable one; 0 = none");
  add_samplers(c, f.samplers);
  c.option("--repeat-penalty,--repetition-penalty", &f.repetition_penalty, "X",
           "divide logits of recent tokens; 1 = off");
  c.option("--presence-penalty", &f.presence_penalty, "X", "subtract from logits of recent tokens; 0 = off");
  c.option("--frequency-penalty", &f.frequency_penalty, "X", "the same per occurrence; 0 = off");
  c.option("--repeat-last-n", &f.penalty_last_n, "N", "tokens the penalties look back at; -1 = all, 0 = none");
  c.option("--logit-bias", &f.logit_bias, "ID:X", "add X to the logit of token ID; may be repeated");
  c.option("-r,--reverse-prompt,--stop", &f.stop, "TEXT", "end before this text; may be repeated");
  c.toggle("--ignore-eos", &f.ignore_eos, "go on past the end-of-text token");
  c.toggle("--special", &f.show_special, "print special tokens too");
}

namespace {

std::pair<int32_t, float> parse_bias(const std::string& text) {
  int32_t id = 0;
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [colon, id_error] = std::from_chars(text.data(), end, id);
  const bool has_colon = id_error == std::errc() && colon != end && *colon == ':';
  const char* from = has_colon ? colon + 1 : end;
  const auto [stop, value_error] = std::from_chars(from != end && *from == '+' ? from + 1 : from, end, value);
  if (!has_colon || value_error != std::errc() || stop != end || !(std::abs(value) <= 100))
    fail(ErrorCode::kUsage, "--logit-bias: expected ID:VALUE with a value in [-100, 100], found '{}'", printable(text));
  return {id, static_cast<float>(value)};
}

}  // namespace

void apply_sampling(const SamplingFlags& f, const engine::Llm& llm, engine::Request& r) {
  r.sampling = llm.sampling_defaults();
  const auto set = [](float& to, double from) {
    if (!std::isnan(from)) to = static_cast<float>(from);
  };
  set(r.sampling.temperature, f.temperature);
  set(r.sampling.top_p, f.top_p);
  set(r.sampling.min_p, f.min_p);
  set(r.sampling.repetition_penalty, f.repetition_penalty);
  set(r.sampling.presence_penalty, f.presence_penalty);
  set(r.sampling.frequency_penalty, f.frequency_penalty);
  if (f.top_k != SamplingFlags::kUnset) r.sampling.top_k = static_cast<int>(in_range("--top-k", f.top_k, 0, 1 << 22));
  if (f.penalty_last_n != SamplingFlags::kUnset) {
    if (f.penalty_last_n != -1) in_range("--repeat-last-n", f.penalty_last_n, 0, 1 << 30);
    r.sampling.penalty_last_n = static_cast<int>(f.penalty_last_n);
  }
  apply_samplers(f.samplers, r.sampling);
  if (f.seed != SamplingFlags::kUnset) r.sampling.seed = f.seed;
  for (const std::string& text : f.logit_bias) r.sampling.logit_bias.push_back(parse_bias(text));
  if (f.max_tokens != -1) r.max_tokens = static_cast<int>(in_range("--max-tokens", f.max_tokens, 1, 1 << 30));
  for (const std::string& text : f.stop)
    if (text.empty()) fail(ErrorCode::kUsage, "--stop: expected a text that is not empty");
  r.stop = f.stop;
  r.ignore_eos = f.ignore_eos;
  r.skip_special = !f.show_special;
}

engine::Result run_request(engine::Engine& engine, engine::Request request, const CancelToken& cancel) {
  const engine::RequestId id = engine.submit(std::move(request));
  while (!engine.finished(id)) {
    if (cancel.cancelled()) engine.cancel(id);
    if (!engine.finished(id)) engine.step();
  }
  return engine.take(id);
}

std::string speed_lines(const engine::Result& r) {
  const auto rate = [](size_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  // The first token comes from the prompt's pass, so that n tokens cost n - 1 decode steps.
  const size_t steps = r.tokens.empty() ? 0 : r.tokens.size() - 1;
  return fmt::format(
      "prompt eval: {} tokens in {:.3f} s, {:.2f} tokens/s\neval: {} tokens in {:.3f} s, {:.2f} tokens/s\n",
      r.prompt_tokens, r.prompt_seconds, rate(r.prompt_tokens, r.prompt_seconds), r.tokens.size(), r.decode_seconds,
      rate(steps, r.decode_seconds));
}

}  // namespace fettle::cli
