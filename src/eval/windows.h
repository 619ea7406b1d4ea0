#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace fettle::eval {

// How a long text is cut into pieces that fit the context, and which predictions count. Numbers of different methods
// are not comparable, so every report names its method.
enum class PplMethod : uint8_t {
  kLlamaCpp,  // windows of ctx without overlap; only the second half of each is scored (llama-perplexity)
  kGptq,      // windows of ctx without overlap; all but the first token scored; mean of window means (papers)
  kHf,        // windows of ctx every `stride` tokens; only the targets not scored before count (Hugging Face docs)
  kLmEval,    // every token scored once, one token of context at each cut (lm-evaluation-harness)
};
std::string_view method_name(PplMethod method);  // "llamacpp", "gptq", "hf", "lm-eval"
PplMethod parse_method(std::string_view name);   // throws kUsage with the list

struct WindowOptions {
  PplMethod method = PplMethod::kLlamaCpp;
  size_t ctx = 512;        // tokens per window
  size_t stride = 0;       // hf: 0 = 512 (at most ctx); llamacpp: 0 = plain windows, else --ppl-stride
  size_t max_windows = 0;  // 0 = all
};

// Tokens [begin, begin + length) of the text. The model reads all but the last of them; its logits after token i of the
// window predict token i + 1. Targets [first_target, length) are scored.
struct Window {
  size_t begin = 0;
  size_t length = 0;
  size_t first_target = 1;
  bool bos_first = false;  // the first token is replaced by BOS when the tokenizer adds BOS
  size_t targets() const { return length - first_target; }
};

// Cuts `n_tokens` tokens; an incomplete last window is dropped by llamacpp and gptq and scored by the others. Throws
// kUsage for a context below 2 (llamacpp: 4) or a stride above it and kInput when the text is too short for one window,
// naming both numbers.
std::vector<Window> plan_windows(size_t n_tokens, const WindowOptions& options);

}  // namespace fettle::eval
