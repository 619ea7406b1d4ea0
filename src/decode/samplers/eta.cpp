#include "decode/samplers/eta.h"

#include <algorithm>
#include <cmath>

namespace fettle::decoding {
namespace {

void keep_above(Candidates& c, const SoftmaxStats& s, double cut, size_t min_keep) {
  size_t n = 0;
  while (n < c.size()) {
    c.sort(n + 1);
    if (c.weight(n, s.max) < cut * s.z) break;
    ++n;
  }
  c.keep(std::max(n, min_keep));
}

}  // namespace

void keep_epsilon(Candidates& c, double eps, size_t min_keep) {
  if (eps <= 0 || c.empty()) return;
  keep_above(c, c.stats(), eps, min_keep);
}

void keep_eta(Candidates& c, double eps, size_t min_keep) {
  if (eps <= 0 || c.empty()) return;
  const SoftmaxStats s = c.stats();
  keep_above(c, s, std::min(eps, std::sqrt(eps) * std::exp(-s.entropy)), min_keep);
}

}  // namespace fettle::decoding
