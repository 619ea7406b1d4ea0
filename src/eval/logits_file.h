#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "eval/divergence.h"

// Log-probabilities of a reference run on disk, the `_logits_` layout of llama-perplexity (--kl-divergence-base):
//   "_logits_", i32 n_ctx, i32 n_vocab, i32 n_chunk, i32 tokens[n_chunk * n_ctx], then per scored position
//   F32 scale, F32 min_log_prob, V u16 codes (padded to an even count): log p = min_log_prob + scale * code,
//   logits clipped 16 below the maximum, scale = range / 65535.
// Scored positions per chunk: n_ctx - 1 - n_ctx / 2. Log-probabilities are therefore rounded to range / 131070.
namespace fettle::eval {

// Runs the reference over the text (method llamacpp, no stride) and writes the file; returns its perplexity. The file
// appears complete or not at all.
PplResult save_logits(const std::string& path, Overwrite overwrite, LogitSource& source, const EvalText& text,
                      const WindowOptions& options, ThreadPool& pool, const RunHooks& hooks = {});

class LogitsFile {
 public:
  // Validates magic, counts and file size. Throws kInput naming field, expected and found.
  static LogitsFile open(const std::string& path);

  size_t ctx() const { return ctx_; }
  size_t vocab_size() const { return vocab_; }
  size_t chunks() const { return chunks_; }
  size_t rows_per_chunk() const { return ctx_ - 1 - ctx_ / 2; }
  std::vector<int32_t> tokens() const;  // [chunks * ctx]
  // Log-probabilities of scored row `row` of chunk `chunk`: out [V].
  void read_row(size_t chunk, size_t row, std::span<float> out) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  size_t ctx_ = 0, vocab_ = 0, chunks_ = 0;
  size_t row_bytes() const { return 2 * (2 * ((vocab_ + 1) / 2) + 4); }
};

// Compares a model with the stored reference on the stored tokens. `bos` replaces the first token of every window when
// the tokenizer adds BOS (text.adds_bos); text supplies only that, its name and its byte count.
KlResult compare_to_file(const LogitsFile& reference, LogitSource& source, const EvalText& text, ThreadPool& pool,
                         size_t max_windows, const RunHooks& hooks = {});

}  // namespace fettle::eval
