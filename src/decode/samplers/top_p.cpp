#include "decode/samplers/top_p.h"

#include <algorithm>

namespace fettle::decoding {

void keep_top_p(Candidates& c, double p, size_t min_keep) {
  if (p >= 1 || c.empty()) return;
  c.sort(1);
  const SoftmaxStats s = c.stats();
  double sum = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    c.sort(i + 1);
    sum += c.weight(i, s.max);
    if (sum >= p * s.z && i + 1 >= min_keep) {
      c.keep(i + 1);
      return;
    }
  }
}

}  // namespace fettle::decoding
