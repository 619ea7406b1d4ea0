#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "eval/score.h"
#include "eval/statistics.h"

namespace fettle::eval {

std::vector<int32_t> window_tokens(const EvalText& text, const Window& window) {
  const auto begin = text.tokens.begin() + static_cast<std::ptrdiff_t>(window.begin);
  std::vector<int32_t> tokens(begin, begin + static_cast<std::ptrdiff_t>(window.length));
  if (window.bos_first && text.adds_bos && text.bos >= 0) tokens[0] = text.bos;
  return tokens;
}

EvalText text_for_method(const EvalText& text, PplMethod method, size_t vocab_size) {
  EvalText out = text;
  if (method == PplMethod::kLmEval && !text.adds_bos) {
    if (text.bos < 0)
      fail(ErrorCode::kInput, "{}: method lm-eval needs a BOS or end-of-text token, the tokenizer names none",
           text.name);
    out.tokens.insert(out.tokens.begin(), text.bos);
  }
  for (size_t i = 0; i < out.tokens.size(); ++i)
    if (out.tokens[i] < 0 || static_cast<size_t>(out.tokens[i]) >= vocab_size)
      fail(ErrorCode::kInput, "{}: token {} has id {}, the model's vocabulary has {} entries", text.name, i,
           out.tokens[i], vocab_size);
  return out;
}

namespace {

// Sums of one run; the mean of window means is kept beside the mean over tokens because papers report that one.
struct Totals {
  RunningStat token_nll;
  RunningStat window_means;

  void fill(PplResult& r, const EvalText& text) const {
    const bool papers = r.method == PplMethod::kGptq;
    r.scored = token_nll.count();
    r.nll = papers ? window_means.mean() : token_nll.mean();
    r.nll_error = token_nll.standard_error();
    r.ppl = std::exp(r.nll);
    r.ppl_error = r.ppl * r.nll_error;
    if (text.bytes > 0)
      r.bits_per_byte = r.nll * static_cast<double>(r.tokens) / static_cast<double>(text.bytes) / std::numbers::ln2;
  }
};

}  // namespace

PplResult perplexity(LogitSource& source, const EvalText& input, const WindowOptions& options, ThreadPool& pool,
                     const RunHooks& hooks) {
  const EvalText text = text_for_method(input, options.method, source.vocab_size());
  const std::vector<Window> windows = plan_windows(text.tokens.size(), options);
  PplResult result{
      .method = options.method, .ctx = options.ctx, .stride = options.stride, .tokens = input.tokens.size()};
  if (options.method == PplMethod::kHf && result.stride == 0) result.stride = std::min<size_t>(512, options.ctx);
  Totals totals;
  std::vector<double> nll;
  for (size_t w = 0; w < windows.size(); ++w) {
    check_cancel(hooks.cancel);
    RunningStat mean;
    score_window(source, window_tokens(text, windows[w]), windows[w],
                 [&](MatView<const float> logits, std::span<const int32_t> targets) {
                   nll.resize(targets.size());
                   negative_log_likelihoods(logits, targets, pool, nll);
                   for (const double x : nll) {
                     totals.token_nll.add(x);
                     mean.add(x);
                   }
                 });
    totals.window_means.add(mean.mean());
    result.windows = w + 1;
    totals.fill(result, text);
    if (hooks.progress) hooks.progress(w + 1, windows.size(), result);
  }
  const bool all_scored = result.scored + 1 >= text.tokens.size();
  if (all_scored && text.words > 0 && (options.method == PplMethod::kHf || options.method == PplMethod::kLmEval)) {
    const double total = totals.token_nll.mean() * static_cast<double>(result.scored);
    result.word_ppl = std::exp(total / static_cast<double>(text.words));
    result.bits_per_byte = total / static_cast<double>(text.bytes) / std::numbers::ln2;
  }
  return result;
}

}  // namespace fettle::eval
