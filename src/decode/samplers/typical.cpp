#include "decode/samplers/typical.h"

#include <algorithm>
#include <cmath>

namespace fettle::decoding {
namespace {

struct Scored {
  double score;   // |-ln p - H|
  double weight;  // p * z
  Candidate token;
};

// Heap order: the most typical token on top, ties in canonical order.
bool later(const Scored& a, const Scored& b) {
  return a.score != b.score ? a.score > b.score : better(b.token, a.token);
}

}  // namespace

void keep_typical(Candidates& c, double p, size_t min_keep, bool keep_ties) {
  if (p >= 1 || c.empty()) return;
  const SoftmaxStats s = c.stats();
  const double log_z = std::log(s.z);
  std::vector<Scored> heap;
  heap.reserve(c.size());
  for (size_t i = 0; i < c.size(); ++i) {
    const double x = (static_cast<double>(c[i].logit) - s.max) * c.inverse_temperature();
    heap.push_back({std::abs(log_z - x - s.entropy), std::exp(x), c[i]});
  }
  std::make_heap(heap.begin(), heap.end(), later);
  std::vector<Candidate> kept;
  double mass = 0;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scored best = heap.back();
    heap.pop_back();
    kept.push_back(best.token);
    mass += best.weight;
    const bool enough = keep_ties ? mass >= p * s.z : mass > p * s.z;
    if (!enough || kept.size() < min_keep) continue;
    if (keep_ties)
      for (const Scored& x : heap)
        if (x.score == best.score) kept.push_back(x.token);
    break;
  }
  c.replace(std::move(kept));
}

}  // namespace fettle::decoding
