#include "decode/samplers/guidance.h"

#include <cmath>
#include <limits>

#include "base/error.h"
#include "decode/logprobs.h"

namespace fettle::decoding {

void apply_guidance(std::span<float> row, std::span<const float> unconditional, double scale) {
  FETTLE_CHECK_EQ(row.size(), unconditional.size());
  const double log_c = log_sum_exp(row), log_u = log_sum_exp(unconditional);
  for (size_t i = 0; i < row.size(); ++i) {
    const double c = row[i] - log_c, u = unconditional[i] - log_u;
    // A token impossible for either side stays impossible instead of becoming NaN.
    row[i] = std::isinf(c) || std::isinf(u) ? -std::numeric_limits<float>::infinity()
                                            : static_cast<float>(u + scale * (c - u));
  }
}

}  // namespace fettle::decoding
