#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "decode/sampling.h"
#include "engine/llm.h"

namespace fettle::engine {

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kError };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled", "error"

struct Request {
  std::vector<int32_t> prompt;
  decoding::SamplingParams sampling;
  int max_tokens = -1;            // -1 = until the context is full
  std::vector<std::string> stop;  // non-empty strings; text ends before the first match
  bool ignore_eos = false;
  bool skip_special = true;
  // Called on the engine thread with each new piece of text (whole UTF-8 characters, never part of a stop string) and
  // the token that completed it. Returning false cancels the request.
  std::function<bool(std::string_view text, int32_t token)> on_text;
};

struct Result {
  std::vector<int32_t> tokens;  // generated, the stopping token not included
  std::string text;
  FinishReason finish_reason = FinishReason::kNone;
  std::string error;  // kError
  int64_t seed = 0;
  size_t prompt_tokens = 0;
  double prompt_seconds = 0, decode_seconds = 0;
};

struct EngineOptions {
  size_t context = 0;          // 0 = min(max_position_embeddings, 8192)
  size_t max_seqs = 8;         // sequences decoded together
  size_t prefill_chunk = 512;  // prompt tokens per step
  DType kv_dtype = DType::kBF16;
  size_t kv_bytes = 0;  // 0 = enough for max_seqs full contexts
};

using RequestId = uint64_t;

// Continuous batching over one model. Owner: one thread calls submit/step/cancel. A request waits, is prefetched in
// chunks, decodes one token per step with all others, and ends with exactly one Result. One request's failure (NaN
// logits) ends that request only.
class Engine {
 public:
  Engine(std::shared_ptr<const Llm> llm, const EngineOptions& options, ThreadPool& pool);
  ~Engine();
  // Throws kUsage for sampling values out of range and kResource when the prompt does not fit the context (both numbers
  // named).
  RequestId submit(Request request);
  bool step();  // false when nothing is left to do
  void cancel(RequestId id);
  bool finished(RequestId id) const;
  Result take(RequestId id);    // removes it
  Result run(Request request);  // submit and step until done
  size_t context() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fettle::engine
