#include "decode/samplers/top_n_sigma.h"

#include <cmath>

namespace fettle::decoding {

void keep_top_n_sigma(Candidates& c, double n) {
  if (n < 0 || c.empty()) return;
  const double max = c.max_logit(), count = static_cast<double>(c.size());
  double mean = 0, square = 0;
  for (const Candidate& x : c.items()) mean += static_cast<double>(x.logit) / count;
  for (const Candidate& x : c.items()) square += (x.logit - mean) * (x.logit - mean);
  const double cut = max - n * std::sqrt(square / count);
  c.keep_if([cut](const Candidate& x) { return static_cast<double>(x.logit) >= cut; });
}

}  // namespace fettle::decoding
