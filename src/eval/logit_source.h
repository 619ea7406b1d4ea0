#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/thread_pool.h"
#include "eval/windows.h"
#include "tensor/tensor.h"

namespace fettle::models {
class Model;
}

namespace fettle::eval {

// Something that reads tokens in order and gives logits: a model, or a table in a test.
class LogitSource {
 public:
  virtual ~LogitSource() = default;
  virtual size_t vocab_size() const = 0;
  virtual void reset() = 0;  // empty context
  // Reads tokens without asking for logits.
  virtual void skip(std::span<const int32_t> tokens) = 0;
  // Logits after each of the tokens, [tokens, V] f32, valid until the next call.
  virtual MatView<const float> feed(std::span<const int32_t> tokens) = 0;
};

// A model read through its own KV cache of `context` tokens. Model and pool must outlive the source.
std::unique_ptr<LogitSource> model_source(const models::Model& model, ThreadPool& pool, size_t context);

// Rows of logits handed out at once: bounded so that a vocabulary of 256 k entries does not need gigabytes.
size_t rows_per_chunk(size_t vocab_size);

// Reads one window (its tokens, BOS already in place) and calls `each(logits, targets)` for consecutive runs of scored
// targets: logits [r, V], targets [r] token ids.
void score_window(LogitSource& source, std::span<const int32_t> tokens, const Window& window,
                  const std::function<void(MatView<const float>, std::span<const int32_t>)>& each);

}  // namespace fettle::eval
