#include "eval/windows.h"

#include <algorithm>

#include "base/error.h"

namespace fettle::eval {
namespace {

struct MethodName {
  PplMethod method;
  std::string_view name;
};
constexpr MethodName kMethods[] = {
    {PplMethod::kGptq, "gptq"},
    {PplMethod::kHf, "hf"},
    {PplMethod::kLlamaCpp, "llamacpp"},
    {PplMethod::kLmEval, "lm-eval"},
};

void require_tokens(size_t n_tokens, size_t needed) {
  if (n_tokens < needed)
    fail(ErrorCode::kInput, "text is too short: expected at least {} tokens for one window, found {} (smaller -c?)",
         needed, n_tokens);
}

// llama-perplexity: logits at positions ctx/2 .. ctx-2 are scored, so that every prediction has half a window of
// context. With a stride the window grows by stride/2 and the last `stride` targets of each shifted window count.
std::vector<Window> llamacpp_windows(size_t n, const WindowOptions& o) {
  std::vector<Window> windows;
  if (o.stride == 0) {
    require_tokens(n, o.ctx);
    for (size_t begin = 0; begin + o.ctx <= n; begin += o.ctx)
      windows.push_back({.begin = begin, .length = o.ctx, .first_target = o.ctx / 2 + 1, .bos_first = true});
    return windows;
  }
  const size_t length = o.ctx + o.stride / 2;
  require_tokens(n, length + 1);
  const size_t count = (n - length + o.stride - 1) / o.stride;
  for (size_t i = 0; i < count && i * o.stride + length <= n; ++i)
    windows.push_back({.begin = i * o.stride, .length = length, .first_target = length - o.stride, .bos_first = true});
  return windows;
}

std::vector<Window> gptq_windows(size_t n, const WindowOptions& o) {
  require_tokens(n, o.ctx);
  std::vector<Window> windows;
  for (size_t begin = 0; begin + o.ctx <= n; begin += o.ctx)
    windows.push_back({.begin = begin, .length = o.ctx, .first_target = 1});
  return windows;
}

std::vector<Window> hf_windows(size_t n, const WindowOptions& o) {
  require_tokens(n, 2);
  const size_t stride = o.stride == 0 ? std::min<size_t>(512, o.ctx) : o.stride;
  std::vector<Window> windows;
  size_t scored_end = 1;  // token 0 has no context
  for (size_t begin = 0; scored_end < n; begin += stride) {
    const size_t end = std::min(begin + o.ctx, n);
    windows.push_back({.begin = begin, .length = end - begin, .first_target = std::max<size_t>(1, scored_end - begin)});
    scored_end = end;
  }
  return windows;
}

// The text starts with a prefix token (BOS or end of text) that is context only. A window reads ctx tokens and predicts
// ctx; the last one reaches back so that it is full.
std::vector<Window> lm_eval_windows(size_t n, const WindowOptions& o) {
  require_tokens(n, 2);
  std::vector<Window> windows;
  for (size_t scored_end = 1; scored_end < n;) {
    const size_t end = std::min(scored_end + o.ctx, n);
    const size_t begin = end >= o.ctx + 1 ? end - (o.ctx + 1) : 0;
    windows.push_back({.begin = begin, .length = end - begin, .first_target = scored_end - begin});
    scored_end = end;
  }
  return windows;
}

}  // namespace

std::string_view method_name(PplMethod method) {
  for (const MethodName& m : kMethods)
    if (m.method == method) return m.name;
  return "unknown";
}

PplMethod parse_method(std::string_view name) {
  for (const MethodName& m : kMethods)
    if (m.name == name) return m.method;
  fail(ErrorCode::kUsage, "--method: expected llamacpp, gptq, hf or lm-eval, found '{}'", printable(name));
}

std::vector<Window> plan_windows(size_t n_tokens, const WindowOptions& options) {
  const size_t least = options.method == PplMethod::kLlamaCpp ? 4 : 2;
  if (options.ctx < least || options.ctx > size_t{1} << 30)
    fail(ErrorCode::kUsage, "context size: expected {} or more tokens, found {}", least, options.ctx);
  if (options.stride > options.ctx)
    fail(ErrorCode::kUsage, "stride: expected at most the context size {}, found {}", options.ctx, options.stride);
  std::vector<Window> windows;
  switch (options.method) {
    case PplMethod::kLlamaCpp:
      windows = llamacpp_windows(n_tokens, options);
      break;
    case PplMethod::kGptq:
      windows = gptq_windows(n_tokens, options);
      break;
    case PplMethod::kHf:
      windows = hf_windows(n_tokens, options);
      break;
    case PplMethod::kLmEval:
      windows = lm_eval_windows(n_tokens, options);
      break;
  }
  if (options.max_windows > 0 && windows.size() > options.max_windows) windows.resize(options.max_windows);
  return windows;
}

}  // namespace fettle::eval
