#include "decode/samplers/tail_free.h"

#include <algorithm>
#include <cmath>

namespace fettle::decoding {

void keep_tail_free(Candidates& c, double z, size_t min_keep) {
  if (z >= 1 || c.size() < 3) return;
  c.sort(c.size());
  const SoftmaxStats s = c.stats();
  std::vector<double> p(c.size()), curvature(c.size() - 2);
  for (size_t i = 0; i < c.size(); ++i) p[i] = c.weight(i, s.max) / s.z;
  double sum = 0;
  for (size_t i = 0; i < curvature.size(); ++i) {
    curvature[i] = std::abs((p[i] - p[i + 1]) - (p[i + 1] - p[i + 2]));
    sum += curvature[i];
  }
  double reached = 0;
  for (size_t i = 0; i < curvature.size(); ++i) {
    reached += sum > 1e-6 ? curvature[i] / sum : 1.0 / static_cast<double>(curvature.size());
    if (reached > z && i >= min_keep) {
      c.keep(i);
      return;
    }
  }
}

}  // namespace fettle::decoding
