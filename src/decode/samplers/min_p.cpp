#include "decode/samplers/min_p.h"

#include <algorithm>
#include <cmath>

namespace fettle::decoding {

void keep_min_p(Candidates& c, double min_p, size_t min_keep) {
  if (min_p <= 0 || c.empty()) return;
  c.sort(std::max<size_t>(min_keep, 1));
  // In logits, so that no exponential is needed: (l - l_max) / T >= ln(min_p).
  const double cut = c.max_logit() + std::log(min_p) / c.inverse_temperature();
  const size_t above = static_cast<size_t>(std::count_if(
      c.items().begin(), c.items().end(), [cut](const Candidate& x) { return static_cast<double>(x.logit) >= cut; }));
  if (above < min_keep)
    c.keep(min_keep);
  else if (above == 0)
    c.keep(1);
  else
    c.keep_if([cut](const Candidate& x) { return static_cast<double>(x.logit) >= cut; });
}

}  // namespace fettle::decoding
