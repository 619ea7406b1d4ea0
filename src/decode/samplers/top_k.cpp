#include "decode/samplers/top_k.h"

#include <algorithm>

namespace fettle::decoding {

void keep_top_k(Candidates& c, int64_t k, bool keep_ties) {
  if (k <= 0 || static_cast<size_t>(k) >= c.size()) return;
  size_t n = static_cast<size_t>(k);
  c.sort(n);
  if (keep_ties) {
    const float last = c[n - 1].logit;
    c.keep_if([last](const Candidate& x) { return x.logit >= last; });
  } else {
    c.keep(n);
  }
}

}  // namespace fettle::decoding
