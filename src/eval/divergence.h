#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "eval/perplexity.h"
#include "eval/score.h"
#include "eval/statistics.h"

namespace fettle::eval {

// Fractions at which the KL distribution is reported.
inline constexpr std::array<double, 9> kKlFractions = {0.001, 0.01, 0.05, 0.10, 0.50, 0.90, 0.95, 0.99, 0.999};

// A model against its reference on the same predictions (nats).
struct KlResult {
  PplResult model, reference;
  Estimate kl;  // mean
  double kl_max = 0;
  std::array<double, kKlFractions.size()> kl_at{};  // percentiles, same order as kKlFractions
  Estimate top1_agreement;                          // share of positions with the same most probable token
  Estimate mean_delta_p;                            // of the true token's probability
  Estimate rms_delta_p;
  Estimate ln_ppl_ratio;  // ln(ppl / reference ppl), errors of both taken together
};

// Collects pair scores of one model.
class KlAccumulator {
 public:
  void add(std::span<const PairScore> scores);
  size_t count() const { return kl_.size(); }
  double mean_kl() const { return kl_stat_.mean(); }
  // Fills everything but the fields of `model` and `reference` that describe the run (method, ctx, tokens).
  void finish(KlResult& result, size_t text_bytes) const;

 private:
  std::vector<float> kl_;
  RunningStat kl_stat_, nll_, reference_nll_, difference_, delta_p_, delta_p2_;
  size_t same_top_ = 0;
};

// Reference and candidates read the same windows side by side, so that no logits need to be stored: one pass of the
// reference serves all candidates. Every source must have the reference's vocabulary size (kInput otherwise).
std::vector<KlResult> compare_to_reference(LogitSource& reference, std::span<LogitSource* const> candidates,
                                           const EvalText& text, const WindowOptions& options, ThreadPool& pool,
                                           const RunHooks& hooks = {});

}  // namespace fettle::eval
