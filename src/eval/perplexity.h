#pragma once

#include <cstddef>
#include <functional>

#include "base/cancel.h"
#include "base/thread_pool.h"
#include "eval/logit_source.h"
#include "eval/text_input.h"
#include "eval/windows.h"

namespace fettle::eval {

// Perplexity of one text, natural logarithms, with everything a reader needs to compare it.
struct PplResult {
  PplMethod method = PplMethod::kLlamaCpp;
  size_t ctx = 0, stride = 0, windows = 0;
  size_t tokens = 0, scored = 0;  // of the text; predictions that counted
  double nll = 0, nll_error = 0;  // mean per scored token, with standard error
  double ppl = 0, ppl_error = 0;  // exp(nll); error = ppl * nll_error
  double bits_per_byte = 0;       // nll * tokens / bytes of the text, in bits
  double word_ppl = 0;            // exp(total nll / words); only where every token is scored once (hf, lm-eval), else 0
};

// Called after each window with its number and the figures so far.
using PplProgress = std::function<void(size_t window, size_t windows, const PplResult& so_far)>;

struct RunHooks {
  PplProgress progress;
  const CancelToken* cancel = nullptr;  // checked between windows
};

// Throws what plan_windows throws, kInput when a token lies outside the model's vocabulary, kNumeric for non-finite
// logits.
PplResult perplexity(LogitSource& source, const EvalText& text, const WindowOptions& options, ThreadPool& pool,
                     const RunHooks& hooks = {});

// Tokens of one window as the model reads them, BOS in place where the method asks for it.
std::vector<int32_t> window_tokens(const EvalText& text, const Window& window);

// The text as the method reads it: lm-eval puts the prefix token first, the others take it as it is. Checks that all
// ids lie below vocab_size.
EvalText text_for_method(const EvalText& text, PplMethod method, size_t vocab_size);

}  // namespace fettle::eval
