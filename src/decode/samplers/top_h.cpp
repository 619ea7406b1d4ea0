#include "decode/samplers/top_h.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fettle::decoding {
namespace {

constexpr size_t kTopN = 100;  // constant of both published processors
constexpr double kPeaked = 1e-6;
constexpr double kSlack = 1 + 1e-12;  // an entropy that equals the bound keeps its token in spite of rounding

// G and h of a growing prefix. p ln p uses the logarithm that is already known, so p = 0 never gives NaN.
struct Prefix {
  double mass = 0, plogp = 0;
  size_t count = 0;

  Prefix with(double x, double log_z) const {
    const double log_p = x - log_z, p = std::exp(log_p);
    return {mass + p, plogp + (p > 0 ? p * log_p : 0), count + 1};
  }
  double entropy() const { return std::max(0.0, std::log(mass) - plogp / mass); }
};

double exponent(const Candidates& c, size_t i, double max) {
  return (static_cast<double>(c[i].logit) - max) * c.inverse_temperature();
}

Prefix paper_prefix(Candidates& c, double bound, const SoftmaxStats& s) {
  const double log_z = std::log(s.z);
  Prefix kept;
  for (size_t i = 0; i < c.size(); ++i) {
    c.sort(i + 1);
    if (c.weight(i, s.max) == 0) break;
    const Prefix next = kept.with(exponent(c, i, s.max), log_z);
    if (i > 0 && next.entropy() > bound) break;
    kept = next;
  }
  return kept;
}

// Un-renormalised partial entropies of the N best against alpha times their sum.
Prefix top_n_prefix(Candidates& c, double alpha, const SoftmaxStats& s, bool renormalise) {
  const size_t n = std::min(kTopN, c.size());
  c.sort(n);
  double z = s.z;
  if (renormalise) {
    z = 0;
    for (size_t i = 0; i < n; ++i) z += c.weight(i, s.max);
  }
  const double log_z = std::log(z);
  Prefix all;
  for (size_t i = 0; i < n; ++i) all = all.with(exponent(c, i, s.max), log_z);
  Prefix kept;
  for (size_t i = 0; i < n; ++i) {
    const Prefix next = kept.with(exponent(c, i, s.max), log_z);
    if (i > 0 && -next.plogp > alpha * -all.plogp * kSlack) break;
    kept = next;
  }
  return kept;
}

}  // namespace

TopHMode parse_top_h_mode(std::string_view name) {
  for (TopHMode mode : {TopHMode::kPaper, TopHMode::kRepo, TopHMode::kHf})
    if (name == top_h_mode_name(mode)) return mode;
  fail(ErrorCode::kUsage, "top_h_mode: expected paper, repo or hf, found '{}'", printable(name));
}

std::string_view top_h_mode_name(TopHMode mode) {
  switch (mode) {
    case TopHMode::kPaper:
      return "paper";
    case TopHMode::kRepo:
      return "repo";
    case TopHMode::kHf:
      return "hf";
  }
  return "paper";
}

TopHReport keep_top_h(Candidates& c, double alpha, TopHMode mode) {
  TopHReport report;
  if (alpha <= 0 || c.empty()) return report;
  const SoftmaxStats s = c.stats(), row = c.row_stats();
  Prefix kept;
  if (mode == TopHMode::kPaper) {
    const bool peaked = !std::isfinite(row.entropy) || row.entropy < kPeaked;
    // Alpha 1 keeps the whole prefix (Theorem 3), which two differently rounded sums must not contradict.
    const double bound = alpha >= 1 && c.whole() ? INFINITY : alpha * row.entropy * kSlack;
    if (!peaked) kept = paper_prefix(c, bound, s);
  } else {
    kept = top_n_prefix(c, alpha, s, mode == TopHMode::kHf);
  }
  report.entropy_all = row.entropy;
  report.kept = std::max<size_t>(kept.count, 1);
  c.keep(report.kept);
  const SoftmaxStats after = c.stats();
  report.entropy_kept = after.entropy;
  report.mass = after.z / s.z;
  return report;
}

}  // namespace fettle::decoding
