#include "decode/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "decode/samplers/candidates.h"
#include "decode/samplers/softmax_sums.h"

namespace fettle::decoding {

double log_sum_exp(std::span<const float> row) {
  float max = -std::numeric_limits<float>::infinity();
  for (float x : row) max = std::max(max, x);
  if (std::isinf(max)) return max;
  return max + std::log(softmax_sums(row.size(), max, 1.0, [row](size_t i) { return row[i]; }).z);
}

Logprobs token_logprobs(std::span<const float> row, int32_t chosen, size_t n) {
  if (chosen < 0 || static_cast<size_t>(chosen) >= row.size())
    fail(ErrorCode::kUsage, "logprobs: expected a token id below {}, found {}", row.size(), chosen);
  const double log_z = log_sum_exp(row);
  const Candidate mine{row[static_cast<size_t>(chosen)], chosen};
  n = std::min(n, row.size());
  std::vector<Candidate> best;  // heap of the n best, the worst of them on top
  best.reserve(n + 1);
  size_t rank = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const Candidate x{row[i], static_cast<int32_t>(i)};
    rank += better(x, mine);
    if (n == 0 || (best.size() == n && !better(x, best.front()))) continue;
    if (best.size() == n) {
      std::pop_heap(best.begin(), best.end(), better);
      best.pop_back();
    }
    best.push_back(x);
    std::push_heap(best.begin(), best.end(), better);
  }
  std::sort_heap(best.begin(), best.end(), better);
  Logprobs out{{chosen, mine.logit - log_z, rank}, {}};
  for (size_t i = 0; i < best.size(); ++i) out.top.push_back({best[i].id, best[i].logit - log_z, i});
  return out;
}

}  // namespace fettle::decoding
