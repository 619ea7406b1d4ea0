#include "eval/logit_source.h"

#include <algorithm>

namespace fettle::eval {

size_t rows_per_chunk(size_t vocab_size) {
  constexpr size_t kLogitBytes = size_t{64} << 20;
  // At least 32 rows, so that weights are read once for many tokens; at most 512, the usual prefill batch.
  return std::clamp<size_t>(kLogitBytes / (sizeof(float) * std::max<size_t>(vocab_size, 1)), 32, 512);
}

void score_window(LogitSource& source, std::span<const int32_t> tokens, const Window& window,
                  const std::function<void(MatView<const float>, std::span<const int32_t>)>& each) {
  FETTLE_CHECK_EQ(tokens.size(), window.length);
  FETTLE_CHECK(window.first_target >= 1 && window.first_target < window.length);
  const size_t rows = rows_per_chunk(source.vocab_size());
  source.reset();
  const size_t context_only = window.first_target - 1;
  if (context_only > 0) source.skip(tokens.first(context_only));
  for (size_t at = context_only; at + 1 < tokens.size();) {
    const size_t n = std::min(rows, tokens.size() - 1 - at);
    each(source.feed(tokens.subspan(at, n)), tokens.subspan(at + 1, n));
    at += n;
  }
}

}  // namespace fettle::eval
