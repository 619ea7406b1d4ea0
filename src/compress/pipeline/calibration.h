#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/json.h"
#include "base/thread_pool.h"

namespace fettle::compress {

struct CalibrationOptions {
  // Text file, .jsonl file, or "self": the model's own sampling. Empty = self.
  std::string source;
  int64_t samples = 128;
  int64_t seqlen = 2048;  // tokens per sample, BOS included where the tokenizer adds one
  int64_t seed = 0;
};

// What runs through the blocks: samples of token ids, each a sequence of its own.
struct Calibration {
  std::vector<std::vector<int32_t>> samples;
  std::string description;  // "128 windows of 2048 tokens of book.txt"
  size_t tokens() const;
  size_t longest() const;
};

// From text: `samples` windows of `seqlen` tokens. A window is seqlen - 1 consecutive tokens of the tokenised file
// after BOS when the tokenizer writes BOS, else seqlen of them. Windows lie on a grid of their own length; when the
// text has more than `samples` of them, a random choice (seed), in file order. From .jsonl: one sample per line,
// {"text": ...} or {"messages": [...]} (rendered with the model's chat template, else ChatML), cut to seqlen, lines of
// fewer than 2 tokens skipped; a random choice when there are more lines. Self: the model continues BOS (or its
// end-of-text token) at temperature 1, seqlen tokens each; needs the whole model in memory for a moment. Throws kInput
// when the text holds fewer windows or lines than asked for, naming both counts and what would fit; for ill-formed
// UTF-8 and lines of the wrong shape (line number); kUsage for counts below 1 (samples) or 2 (seqlen).
Calibration load_calibration(const std::string& model, const CalibrationOptions& options, ThreadPool& pool,
                             const CancelToken* cancel = nullptr);

}  // namespace fettle::compress
