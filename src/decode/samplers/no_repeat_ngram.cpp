#include "decode/samplers/no_repeat_ngram.h"

#include <algorithm>
#include <limits>

namespace fettle::decoding {

void ban_repeated_ngrams(std::span<float> row, std::span<const int32_t> history, int64_t n) {
  if (n <= 0 || history.size() < static_cast<size_t>(n)) return;
  const size_t prefix = static_cast<size_t>(n) - 1;
  const std::span<const int32_t> now = history.last(prefix);
  for (size_t at = 0; at + prefix < history.size(); ++at) {
    const int32_t next = history[at + prefix];
    if (next < 0 || static_cast<size_t>(next) >= row.size()) continue;
    if (std::equal(now.begin(), now.end(), history.begin() + static_cast<ptrdiff_t>(at)))
      row[static_cast<size_t>(next)] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace fettle::decoding
