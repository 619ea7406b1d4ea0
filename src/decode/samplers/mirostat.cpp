#include "decode/samplers/mirostat.h"

#include <algorithm>
#include <cmath>

namespace fettle::decoding {

void keep_mirostat_v1(Candidates& c, const Mirostat& state, int64_t vocab_size, size_t m) {
  if (c.size() < 2) return;
  const size_t n = std::min(m, c.size());
  c.sort(n);
  double tb = 0, tt = 0;
  for (size_t i = 0; i + 1 < n; ++i) {
    const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    const double b = (static_cast<double>(c[i].logit) - c[i + 1].logit) * c.inverse_temperature();  // ln(p_i / p_{i+1})
    tb += t * b;
    tt += t * t;
  }
  const double s = tb / tt, e = s - 1;
  const double k = std::pow(e * std::exp2(state.mu) / (1 - std::pow(static_cast<double>(vocab_size), -e)), 1 / s);
  // Equal logits give s = 0 and no finite k: everything stays. s = 1 is 0 / 0 with the same meaning.
  if (!(k < static_cast<double>(c.size()))) return;
  c.keep(static_cast<size_t>(std::max(k, 1.0)));
}

void keep_mirostat_v2(Candidates& c, const Mirostat& state) {
  if (c.empty()) return;
  c.sort(1);
  const SoftmaxStats s = c.stats();
  const double cut = s.z * std::exp2(-state.mu);
  size_t n = 0;
  while (n < c.size()) {
    c.sort(n + 1);
    if (c.weight(n, s.max) < cut) break;
    ++n;
  }
  c.keep(n);
}

void update_mirostat(Mirostat& state, const Candidates& c, size_t i) {
  const SoftmaxStats s = c.stats();
  const double surprise =
      (std::log(s.z) - (static_cast<double>(c[i].logit) - s.max) * c.inverse_temperature()) / std::log(2.0);
  state.mu -= state.eta * (surprise - state.tau);
}

}  // namespace fettle::decoding
