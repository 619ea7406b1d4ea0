#include "compress/solve/smoothquant.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fettle::compress {
namespace {

constexpr double kFloor = 1e-5;

// max over all rows and matrices of |W[:, k]|.
std::vector<double> column_maxima(std::span<const MatView<const float>> weights, size_t k) {
  std::vector<double> out(k, 0.0);
  for (const auto& w : weights) {
    if (w.cols != k) fail(ErrorCode::kInput, "smoothing: weights of {} columns for {} inputs", w.cols, k);
    for (size_t r = 0; r < w.rows; ++r)
      for (size_t c = 0; c < k; ++c) out[c] = std::max(out[c], std::fabs(static_cast<double>(w.row(r)[c])));
  }
  return out;
}

}  // namespace

ChannelRange::ChannelRange(int64_t k)
    : min(static_cast<size_t>(k), std::numeric_limits<float>::infinity()),
      max(static_cast<size_t>(k), -std::numeric_limits<float>::infinity()) {}

void ChannelRange::add(MatView<const float> x) {
  if (x.cols != min.size()) fail(ErrorCode::kInput, "input range: expected {} columns, found {}", min.size(), x.cols);
  for (size_t r = 0; r < x.rows; ++r)
    for (size_t c = 0; c < x.cols; ++c) {
      const float v = x.row(r)[c];
      if (!std::isfinite(v))
        fail(ErrorCode::kNumeric, "input range: row {}, column {}: expected a finite number, found {}", r, c, v);
      min[c] = std::min(min[c], v);
      max[c] = std::max(max[c], v);
    }
}

void ChannelRange::merge(const ChannelRange& other) {
  if (other.min.size() != min.size())
    fail(ErrorCode::kInput, "input range: widths {} and {}", min.size(), other.min.size());
  for (size_t c = 0; c < min.size(); ++c) {
    min[c] = std::min(min[c], other.min[c]);
    max[c] = std::max(max[c], other.max[c]);
  }
}

std::vector<float> smooth_factors(const ChannelRange& x, std::span<const MatView<const float>> weights, SmoothRule rule,
                                  double a) {
  if (!(a >= 0 && a <= 1)) fail(ErrorCode::kUsage, "smoothing strength {}: expected 0 to 1", a);
  const size_t k = x.min.size();
  std::vector<double> w(k, 1.0);
  if (rule != SmoothRule::kLogarithm) w = column_maxima(weights, k);
  std::vector<float> out(k);
  for (size_t c = 0; c < k; ++c) {
    const bool seen = x.min[c] <= x.max[c];  // no token yet: leave the channel alone
    const double top = seen ? std::max(std::fabs(x.min[c]), std::fabs(x.max[c])) : 1.0;
    const double range = seen ? static_cast<double>(x.max[c]) - x.min[c] : 1.0;
    double s = range / std::log2(2 + range);
    if (rule == SmoothRule::kPaper) s = std::pow(top, a) / std::pow(std::max(w[c], kFloor), 1 - a);
    if (rule == SmoothRule::kRange) s = std::pow(range, a) / std::pow(std::max(2 * w[c], kFloor), 1 - a);
    out[c] = static_cast<float>(std::max(s, kFloor));
  }
  return out;
}

void scale_columns(MatView<float> w, std::span<const float> s) {
  FETTLE_CHECK_EQ(w.cols, s.size());
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) w.row(r)[c] *= s[c];
}

void unscale_columns(MatView<float> w, std::span<const float> s) {
  FETTLE_CHECK_EQ(w.cols, s.size());
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) w.row(r)[c] /= s[c];
}

}  // namespace fettle::compress
