#include "eval/divergence.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/aligned.h"

namespace fettle::eval {

void KlAccumulator::add(std::span<const PairScore> scores) {
  for (const PairScore& s : scores) {
    kl_.push_back(static_cast<float>(s.kl));
    kl_stat_.add(s.kl);
    nll_.add(s.nll);
    reference_nll_.add(s.reference_nll);
    difference_.add(s.nll - s.reference_nll);
    delta_p_.add(s.delta_p);
    delta_p2_.add(s.delta_p * s.delta_p);
    same_top_ += s.same_top ? 1 : 0;
  }
}

void KlAccumulator::finish(KlResult& result, size_t text_bytes) const {
  const auto fill = [&](PplResult& r, const RunningStat& nll) {
    r.scored = nll.count();
    r.nll = nll.mean();
    r.nll_error = nll.standard_error();
    r.ppl = std::exp(r.nll);
    r.ppl_error = r.ppl * r.nll_error;
    if (text_bytes > 0)
      r.bits_per_byte = r.nll * static_cast<double>(r.tokens) / static_cast<double>(text_bytes) / std::numbers::ln2;
  };
  fill(result.model, nll_);
  fill(result.reference, reference_nll_);
  result.kl = kl_stat_.estimate();
  std::vector<float> sorted = kl_;
  std::sort(sorted.begin(), sorted.end());
  result.kl_max = sorted.empty() ? 0.0 : static_cast<double>(sorted.back());
  for (size_t i = 0; i < kKlFractions.size(); ++i) result.kl_at[i] = percentile(sorted, kKlFractions[i]);
  result.top1_agreement = proportion(same_top_, kl_.size());
  result.mean_delta_p = delta_p_.estimate();
  const double rms = std::sqrt(delta_p2_.mean());
  // d sqrt(m) = dm / (2 sqrt(m))
  result.rms_delta_p = {rms, rms > 0 ? 0.5 * delta_p2_.standard_error() / rms : 0.0};
  result.ln_ppl_ratio = difference_.estimate();
}

namespace {

// The reference's logits of one window, copied because its own buffer is reused by the next feed().
struct WindowLogits {
  AlignedBuffer<float> values;
  size_t rows = 0, vocab = 0;

  void start(size_t targets, size_t vocab_size) {
    rows = 0;
    vocab = vocab_size;
    values.resize(targets * vocab_size);
  }
  void append(MatView<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r)
      std::memcpy(values.data() + (rows + r) * vocab, logits.row(r), vocab * sizeof(float));
    rows += logits.rows;
  }
  MatView<const float> slice(size_t begin, size_t n) const { return {values.data() + begin * vocab, n, vocab}; }
};

}  // namespace

std::vector<KlResult> compare_to_reference(LogitSource& reference, std::span<LogitSource* const> candidates,
                                           const EvalText& input, const WindowOptions& options, ThreadPool& pool,
                                           const RunHooks& hooks) {
  const size_t vocab = reference.vocab_size();
  for (const LogitSource* c : candidates)
    if (c->vocab_size() != vocab)
      fail(ErrorCode::kInput, "model has {} vocabulary entries, its reference has {}: the two cannot be compared",
           c->vocab_size(), vocab);
  const EvalText text = text_for_method(input, options.method, vocab);
  const std::vector<Window> windows = plan_windows(text.tokens.size(), options);
  std::vector<KlAccumulator> sums(candidates.size());
  WindowLogits kept;
  std::vector<PairScore> scores;
  PplResult run{.method = options.method, .ctx = options.ctx, .stride = options.stride, .tokens = input.tokens.size()};
  for (size_t w = 0; w < windows.size(); ++w) {
    check_cancel(hooks.cancel);
    const std::vector<int32_t> tokens = window_tokens(text, windows[w]);
    kept.start(windows[w].targets(), vocab);
    score_window(reference, tokens, windows[w],
                 [&](MatView<const float> logits, std::span<const int32_t>) { kept.append(logits); });
    for (size_t c = 0; c < candidates.size(); ++c) {
      size_t row = 0;
      score_window(*candidates[c], tokens, windows[w],
                   [&](MatView<const float> logits, std::span<const int32_t> targets) {
                     scores.resize(targets.size());
                     compare_rows(kept.slice(row, targets.size()), logits, targets, pool, scores);
                     row += targets.size();
                     sums[c].add(scores);
                   });
    }
    run.windows = w + 1;
    if (hooks.progress) hooks.progress(w + 1, windows.size(), run);
  }
  std::vector<KlResult> results(candidates.size());
  for (size_t c = 0; c < candidates.size(); ++c) {
    results[c].model = results[c].reference = run;
    sums[c].finish(results[c], text.bytes);
  }
  return results;
}

}  // namespace fettle::eval
