#include "eval/statistics.h"

#include <algorithm>
#include <cmath>

namespace fettle::eval {

void RunningStat::add(double x) {
  ++count_;
  const double delta = x - mean_;
  mean_ += delta / static_cast<double>(count_);
  squares_ += delta * (x - mean_);
}

double RunningStat::variance() const { return count_ == 0 ? 0.0 : squares_ / static_cast<double>(count_); }

double RunningStat::sample_stddev() const {
  return count_ < 2 ? 0.0 : std::sqrt(squares_ / static_cast<double>(count_ - 1));
}

double RunningStat::standard_error() const {
  return count_ < 2 ? 0.0 : std::sqrt(variance() / static_cast<double>(count_ - 1));
}

double percentile(std::span<const float> sorted, double fraction) {
  if (sorted.empty()) return 0;
  const double position = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double weight = position - static_cast<double>(below);
  return (1 - weight) * static_cast<double>(sorted[below]) + weight * static_cast<double>(sorted[above]);
}

Estimate proportion(size_t hits, size_t count) {
  if (count == 0) return {};
  const double p = static_cast<double>(hits) / static_cast<double>(count);
  return {p, count < 2 ? 0.0 : std::sqrt(p * (1 - p) / static_cast<double>(count - 1))};
}

}  // namespace fettle::eval
