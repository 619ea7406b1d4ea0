#include "eval/logits_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/aligned.h"
#include "base/checked.h"

namespace fettle::eval {
namespace {

constexpr std::string_view kMagic = "_logits_";
constexpr size_t kHeaderBytes = 8 + 3 * sizeof(int32_t);
constexpr float kClip = 16.0f;  // logits further below the maximum are stored as the minimum

template <typename T>
std::span<const std::byte> as_bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

// One scored position: [scale, min_log_prob as 4 u16][V codes, padded to even].
void encode_row(std::span<const float> logits, std::span<uint16_t> out) {
  const RowStats s = row_stats(logits);
  const float lowest = std::max(*std::min_element(logits.begin(), logits.end()), s.max - kClip);
  const auto log_sum = static_cast<float>(s.log_sum_exp);
  const float head[2] = {(s.max - lowest) / 65535.0f, lowest - s.max - log_sum};
  std::memcpy(out.data(), head, sizeof head);
  std::fill(out.begin() + 4, out.end(), uint16_t{0});
  if (head[0] <= 0) return;
  const float inverse = 1.0f / head[0];
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > lowest)
      out[4 + i] = static_cast<uint16_t>(std::min(65535.0f, std::nearbyint(inverse * (logits[i] - lowest))));
}

int32_t read_i32(std::span<const std::byte> bytes, size_t offset) {
  int32_t v = 0;
  std::memcpy(&v, bytes.data() + offset, sizeof v);
  return v;
}

}  // namespace

PplResult save_logits(const std::string& path, Overwrite overwrite, LogitSource& source, const EvalText& text,
                      const WindowOptions& options, ThreadPool& pool, const RunHooks& hooks) {
  if (options.method != PplMethod::kLlamaCpp || options.stride != 0)
    fail(ErrorCode::kUsage, "--save-logits: the file holds windows of method llamacpp without a stride");
  const std::vector<Window> windows = plan_windows(text.tokens.size(), options);
  const size_t vocab = source.vocab_size();
  PplResult result{.method = options.method, .ctx = options.ctx, .tokens = text.tokens.size()};
  text_for_method(text, options.method, vocab);
  write_output_file(path, overwrite, [&](FileWriter& out) {
    out.write(kMagic);
    for (const size_t v : {options.ctx, vocab, windows.size()}) out.write(as_bytes_of(narrow<int32_t>(v, "count")));
    out.write(std::as_bytes(std::span(text.tokens.data(), windows.size() * options.ctx)));
    RunningStat nll_sum;
    std::vector<double> nll;
    std::vector<uint16_t> codes;
    const size_t row_words = 2 * ((vocab + 1) / 2) + 4;
    for (size_t w = 0; w < windows.size(); ++w) {
      check_cancel(hooks.cancel);
      score_window(source, window_tokens(text, windows[w]), windows[w],
                   [&](MatView<const float> logits, std::span<const int32_t> targets) {
                     nll.resize(targets.size());
                     negative_log_likelihoods(logits, targets, pool, nll);
                     for (const double x : nll) nll_sum.add(x);
                     codes.resize(logits.rows * row_words);
                     pool.parallel_for(logits.rows, [&](size_t r) {
                       encode_row(logits.row_span(r), std::span(codes).subspan(r * row_words, row_words));
                     });
                     out.write(std::as_bytes(std::span<const uint16_t>(codes)));
                   });
      result.windows = w + 1;
      result.scored = nll_sum.count();
      result.nll = nll_sum.mean();
      result.nll_error = nll_sum.standard_error();
      result.ppl = std::exp(result.nll);
      result.ppl_error = result.ppl * result.nll_error;
      if (hooks.progress) hooks.progress(w + 1, windows.size(), result);
    }
  });
  return result;
}

LogitsFile LogitsFile::open(const std::string& path) {
  LogitsFile f;
  f.file_ = MappedFile::open(path);
  const std::span<const std::byte> bytes = f.file_->bytes();
  if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    fail(ErrorCode::kInput, "{}: expected a file that starts with '_logits_' and has a header of {} bytes", path,
         kHeaderBytes);
  const int32_t ctx = read_i32(bytes, 8), vocab = read_i32(bytes, 12), chunks = read_i32(bytes, 16);
  if (ctx < 4 || vocab < 1 || chunks < 1)
    fail(ErrorCode::kInput, "{}: expected n_ctx >= 4, n_vocab >= 1, n_chunk >= 1, found {}, {}, {}", path, ctx, vocab,
         chunks);
  f.ctx_ = static_cast<size_t>(ctx);
  f.vocab_ = static_cast<size_t>(vocab);
  f.chunks_ = static_cast<size_t>(chunks);
  // Three 31-bit factors can pass 2^64: checked at each step.
  uint64_t token_bytes = 0, rows = 0, row_total = 0, want = 0;
  const bool fits = checked_mul(f.chunks_, f.ctx_ * sizeof(int32_t), &token_bytes) &&
                    checked_mul(f.chunks_, f.rows_per_chunk(), &rows) && checked_mul(rows, f.row_bytes(), &row_total) &&
                    checked_add(token_bytes, row_total, &want) && checked_add(want, kHeaderBytes, &want);
  if (!fits || want != bytes.size())
    fail(ErrorCode::kInput, "{}: {} chunks of {} tokens with {} vocabulary entries need {} bytes, the file has {}",
         path, chunks, ctx, vocab, fits ? std::to_string(want) : "more than 2^64", bytes.size());
  for (const int32_t id : f.tokens())
    if (id < 0 || id >= vocab)
      fail(ErrorCode::kInput, "{}: token id {} is outside the vocabulary of {} entries", path, id, vocab);
  return f;
}

std::vector<int32_t> LogitsFile::tokens() const {
  std::vector<int32_t> out(chunks_ * ctx_);
  std::memcpy(out.data(), file_->bytes().data() + kHeaderBytes, out.size() * sizeof(int32_t));
  return out;
}

void LogitsFile::read_row(size_t chunk, size_t row, std::span<float> out) const {
  FETTLE_CHECK(chunk < chunks_ && row < rows_per_chunk() && out.size() == vocab_);
  const std::byte* at = file_->bytes().data() + kHeaderBytes + chunks_ * ctx_ * sizeof(int32_t) +
                        (chunk * rows_per_chunk() + row) * row_bytes();
  float head[2];
  std::memcpy(head, at, sizeof head);
  if (!std::isfinite(head[0]) || !std::isfinite(head[1]) || head[0] < 0)
    fail(ErrorCode::kInput, "{}: chunk {} row {}: expected finite scale >= 0 and minimum, found {} and {}",
         file_->path(), chunk, row, head[0], head[1]);
  for (size_t i = 0; i < vocab_; ++i) {
    uint16_t code = 0;
    std::memcpy(&code, at + sizeof head + i * sizeof code, sizeof code);
    out[i] = head[1] + head[0] * static_cast<float>(code);
  }
}

KlResult compare_to_file(const LogitsFile& reference, LogitSource& source, const EvalText& text, ThreadPool& pool,
                         size_t max_windows, const RunHooks& hooks) {
  if (source.vocab_size() != reference.vocab_size())
    fail(ErrorCode::kInput, "model has {} vocabulary entries, the stored reference has {}", source.vocab_size(),
         reference.vocab_size());
  EvalText stored = text;
  stored.tokens = reference.tokens();
  const WindowOptions options{.ctx = reference.ctx(), .max_windows = max_windows};
  const std::vector<Window> windows = plan_windows(stored.tokens.size(), options);
  KlAccumulator sums;
  std::vector<PairScore> scores;
  AlignedBuffer<float> rows;
  PplResult run{.ctx = options.ctx, .tokens = stored.tokens.size()};
  for (size_t w = 0; w < windows.size(); ++w) {
    check_cancel(hooks.cancel);
    size_t row = 0;
    score_window(source, window_tokens(stored, windows[w]), windows[w],
                 [&](MatView<const float> logits, std::span<const int32_t> targets) {
                   rows.resize(targets.size() * logits.cols);
                   pool.parallel_for(targets.size(), [&](size_t r) {
                     reference.read_row(w, row + r, rows.span().subspan(r * logits.cols, logits.cols));
                   });
                   scores.resize(targets.size());
                   compare_rows({rows.data(), targets.size(), logits.cols}, logits, targets, pool, scores);
                   row += targets.size();
                   sums.add(scores);
                 });
    run.windows = w + 1;
    if (hooks.progress) hooks.progress(w + 1, windows.size(), run);
  }
  KlResult result;
  result.model = result.reference = run;
  sums.finish(result, stored.bytes);
  return result;
}

}  // namespace fettle::eval
