#include "decode/samplers/xtc.h"

#include <algorithm>

namespace fettle::decoding {

void exclude_top_choices(Candidates& c, double threshold, size_t min_keep, std::span<const int32_t> keep_ids) {
  if (threshold > 0.5 || c.size() < 2) return;
  const SoftmaxStats s = c.stats();
  size_t above = 0;
  while (above < c.size()) {
    c.sort(above + 1);
    if (c.weight(above, s.max) < threshold * s.z) break;
    ++above;
  }
  if (above < 2 || c.size() - (above - 1) < min_keep) return;
  const Candidate last = c[above - 1];
  c.keep_if([&](const Candidate& x) {
    return !better(x, last) || std::find(keep_ids.begin(), keep_ids.end(), x.id) != keep_ids.end();
  });
}

}  // namespace fettle::decoding
