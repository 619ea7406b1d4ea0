#include "sampler_flags.h"

#include "base/error.h"
#include "context.h"
#include "decode/samplers/registry.h"

namespace fettle::cli {

void add_samplers(Command& c, SamplerFlags& f) {
  c.option("--top-h", &f.top_h, "X", "keep a set of at most X times the entropy of the prediction; 0 = off");
  c.option("--top-h-mode", &f.top_h_mode, "MODE", "rule of --top-h (default paper)").choices({"paper", "repo", "hf"});
  c.option("--typical", &f.typical, "X", "locally typical sampling of mass X; 1 = off");
  c.option("--top-nsigma,--top-n-sigma", &f.top_n_sigma, "X",
           "keep logits within X deviations of the largest; -1 = off");
  c.option("--tfs", &f.tfs, "X", "tail-free sampling; 1 = off");
  c.option("--epsilon-cutoff", &f.epsilon, "X", "drop tokens less probable than X; 0 = off");
  c.option("--eta-cutoff", &f.eta, "X", "the same, lower where the model hesitates; 0 = off");
  c.option("--xtc-probability", &f.xtc_probability, "X", "how often the top choices are excluded; 0 = never");
  c.option("--xtc-threshold", &f.xtc_threshold, "X", "probability of a top choice (default 0.1)");
  c.option("--dynatemp-range", &f.dynatemp_range, "X", "temperature varies by X with the entropy; 0 = off");
  c.option("--dynatemp-exp", &f.dynatemp_exponent, "X", "exponent of that (default 1)");
  c.option("--dry-multiplier", &f.dry_multiplier, "X", "penalise continuing a repetition; 0 = off");
  c.option("--dry-base", &f.dry_base, "X", "growth of that penalty per token (default 1.75)");
  c.option("--dry-allowed-length", &f.dry_allowed_length, "N", "repetition free of penalty (default 2)");
  c.option("--dry-penalty-last-n", &f.dry_last_n, "N", "tokens it looks back at; -1 = all (default)");
  c.option("--no-repeat-ngram", &f.no_repeat_ngram, "N", "never repeat N tokens; 0 = off");
  c.option("--mirostat", &f.mirostat, "N", "hold the surprise with mirostat version 1 or 2; 0 = off");
  c.option("--mirostat-lr", &f.mirostat_lr, "X", "its learning rate eta (default 0.1)");
  c.option("--mirostat-ent", &f.mirostat_ent, "X", "its target tau, bits (default 5)");
  c.option("--min-keep", &f.min_keep, "N", "tokens that samplers leave at least (default 1)");
  c.option("--sampler-order", &f.order, "NAME", "order and ties of llama.cpp or Hugging Face (default llama)")
      .choices({"llama", "hf"});
  c.option("--samplers", &f.samplers, "NAMES", "samplers in this order, such as top_k;top_p;temperature");
  c.option("--sampler-seq,--sampling-seq", &f.letters, "LETTERS", "the same with llama.cpp's letters, such as kpt");
}

void apply_samplers(const SamplerFlags& f, decoding::SamplingParams& p) {
  const auto set = [](float& to, double from) {
    if (!std::isnan(from)) to = static_cast<float>(from);
  };
  set(p.top_h, f.top_h);
  set(p.typical_p, f.typical);
  set(p.top_n_sigma, f.top_n_sigma);
  set(p.tfs_z, f.tfs);
  set(p.epsilon_cutoff, f.epsilon);
  set(p.eta_cutoff, f.eta);
  set(p.xtc_probability, f.xtc_probability);
  set(p.xtc_threshold, f.xtc_threshold);
  set(p.dynatemp_range, f.dynatemp_range);
  set(p.dynatemp_exponent, f.dynatemp_exponent);
  set(p.dry_multiplier, f.dry_multiplier);
  set(p.dry_base, f.dry_base);
  set(p.mirostat_eta, f.mirostat_lr);
  set(p.mirostat_tau, f.mirostat_ent);
  constexpr int64_t kMost = int64_t{1} << 30;
  p.dry_allowed_length = static_cast<int>(in_range("--dry-allowed-length", f.dry_allowed_length, 0, kMost));
  if (f.dry_last_n != -1) in_range("--dry-penalty-last-n", f.dry_last_n, 0, kMost);
  p.dry_penalty_last_n = static_cast<int>(f.dry_last_n);
  p.mirostat = static_cast<int>(in_range("--mirostat", f.mirostat, 0, 2));
  p.no_repeat_ngram_size = static_cast<int>(in_range("--no-repeat-ngram", f.no_repeat_ngram, 0, kMost));
  p.min_keep = static_cast<int>(in_range("--min-keep", f.min_keep, 0, kMost));
  if (!f.top_h_mode.empty()) p.top_h_mode = decoding::parse_top_h_mode(f.top_h_mode);
  if (!f.order.empty()) p.order = decoding::parse_sampler_order(f.order);
  if (!f.samplers.empty() && !f.letters.empty())
    fail(ErrorCode::kUsage, "--samplers and --sampler-seq: expected one of them, found both");
  if (!f.samplers.empty()) p.samplers = decoding::parse_sampler_names(f.samplers);
  if (!f.letters.empty()) p.samplers = decoding::parse_sampler_letters(f.letters);
}

}  // namespace fettle::cli
