#include "compress/solve/scale_estimation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compress/solve/group_fit.h"
#include "tensor/formats/encode_common.h"

namespace fettle::compress {
namespace {

constexpr double kShrink = 0.05;
constexpr double kZeroCode = 1e-3;  // stands for a code of zero in the quotient
constexpr double kEpsilon = static_cast<double>(std::numeric_limits<float>::epsilon());

// One row's group on a grid with a fixed zero point.
class Group {
 public:
  // x: [samples * w.size()] inputs of these columns; importance: [w.size()].
  Group(const CodeSpace& space, const FormatOptions& options, std::span<const float> w, std::span<const double> x,
        std::span<const double> importance)
      : space_(space), w_(w), x_(x), first_(first_grid(options)), importance_(importance.begin(), importance.end()) {
    double sum = 0;
    for (size_t j = 0; j < w_.size(); ++j) {
      if (code(j, first_.scale) == 0) importance_[j] = 0;
      sum += importance_[j];
    }
    for (double& i : importance_) i /= sum + kEpsilon;
  }

  const ExactFit& first() const { return first_; }

  // Mean over samples of (x . (w - w'))^2.
  double error(double scale) const {
    std::vector<double> d(w_.size());
    for (size_t j = 0; j < d.size(); ++j) d[j] = static_cast<double>(w_[j]) - code(j, scale) * scale;
    double sum = 0;
    for (size_t t = 0; t < x_.size(); t += d.size()) {
      double dot = 0;
      for (size_t j = 0; j < d.size(); ++j) dot += d[j] * x_[t + j];
      sum += dot * dot;
    }
    return sum * static_cast<double>(d.size()) / static_cast<double>(x_.size());
  }

  // The scale that fits the codes of `scale`; 0 when nothing of importance has a code.
  double rectified(double scale) const {
    double s = 0;
    for (size_t j = 0; j < w_.size(); ++j) {
      const double c = std::fabs(code(j, scale));
      s += importance_[j] * std::fabs(static_cast<double>(w_[j])) / (c == 0 ? kZeroCode : c);
    }
    return std::copysign(s, first_.scale);
  }

 private:
  ExactFit first_grid(const FormatOptions& o) const {
    const auto [low, high] = std::minmax_element(w_.begin(), w_.end());
    const double mn = static_cast<double>(*low), mx = static_cast<double>(*high);
    const double half = static_cast<double>(space_.zero - space_.lo);
    if (o.symmetric) {
      const double s = (-mn >= mx ? -mn : -mx) / half;
      return {s == 0 ? 1.0 : s, static_cast<double>(space_.zero)};
    }
    const double steps = static_cast<double>(space_.hi), s = (mx - mn) / steps;
    if (s == 0) return exact_fit(space_, o, std::vector<double>(1, mn));  // one value: a range that contains 0
    return {s, std::clamp(std::nearbyint(-mn / s), 0.0, steps)};
  }
  // In units of the scale, zero point taken off.
  double code(size_t j, double scale) const {
    const uint8_t c = space_.encode(static_cast<double>(w_[j]) / scale, first_.zero);
    return static_cast<double>(space_.value(c, static_cast<float>(first_.zero)));
  }

  const CodeSpace& space_;
  std::span<const float> w_;
  std::span<const double> x_;
  ExactFit first_;
  std::vector<double> importance_;
};

struct Best {
  double scale, first_error, error;
};

Best estimate(const Group& group, const ScaleEstimation& how) {
  const double first = group.first().scale, e = group.error(first);
  Best best{first, e, e};
  const auto offer = [&](double codes_of) {
    const double s = group.rectified(codes_of);
    if (s == 0 || !std::isfinite(s)) return;
    const double error = group.error(s);
    if (error <= best.error) {
      best.scale = s;
      best.error = error;
    }
  };
  for (int i = 0; i < how.steps; ++i) offer(best.scale);
  for (int k = 0; k < how.restarts; ++k) offer((1 - kShrink * k) * first);
  return best;
}

// Columns [begin, begin + n) of the samples that errors are measured on, sample after sample.
std::vector<double> columns_of(MatView<const float> means, size_t begin, size_t n, size_t samples) {
  const size_t step = std::max<size_t>(1, means.rows / std::max<size_t>(samples, 1));
  std::vector<double> x;
  for (size_t t = 0; t < means.rows; t += step)
    for (size_t j = 0; j < n; ++j) x.push_back(static_cast<double>(means.row(t)[begin + j]));
  return x;
}

std::vector<double> largest_magnitude(MatView<const float> means) {
  std::vector<double> top(means.cols, 0.0);
  for (size_t t = 0; t < means.rows; ++t)
    for (size_t j = 0; j < means.cols; ++j) top[j] = std::max(top[j], std::fabs(static_cast<double>(means.row(t)[j])));
  return top;
}

}  // namespace

ScaleEstimates estimate_scales(MatView<const float> w, MatView<const float> means, Format format,
                               const FormatOptions& options, ThreadPool& pool, int bits, const ScaleEstimation& how) {
  const FormatInfo& info = format_info(format);
  const CodeSpace space = code_space(format, options, bits);
  if (space.kind != CodeSpace::Kind::kInteger)
    fail(ErrorCode::kUsage, "scale estimation: {}: expected an integer format (int4, int8)", info.name);
  if (means.rows == 0 || means.cols != w.cols)
    fail(ErrorCode::kInput, "scale estimation: token means {} x {}: expected at least one row of {} columns",
         means.rows, means.cols, w.cols);
  // Shapes, zero points and everything but the scales.
  ScaleEstimates out{.grid = make_grid(w, format, options, GridSearch::kAbsMax, {}, pool, bits),
                     .first_scales = {},
                     .first_errors = {},
                     .errors = {}};
  Grid& grid = out.grid;
  for (auto* v : {&out.first_scales, &out.first_errors, &out.errors}) v->resize(grid.scales.size());
  const auto step = static_cast<size_t>(grid.group_size), groups = static_cast<size_t>(grid.groups());
  const std::vector<double> importance = largest_magnitude(means);
  pool.parallel_for(groups, [&](size_t g) {
    const size_t begin = g * step, n = std::min(step, w.cols - begin);
    const std::vector<double> x = columns_of(means, begin, n, how.samples);
    for (size_t r = 0; r < w.rows; ++r) {
      const Group group(space, options, {w.row(r) + begin, n}, x, std::span(importance).subspan(begin, n));
      const Best best = estimate(group, how);
      const size_t at = r * groups + g;
      const float s = formats::round_scale(static_cast<float>(best.scale), options.scale_dtype, info.name);
      grid.scales[at] = s == 0 ? 1.0f : s;
      if (!grid.zeros.empty()) grid.zeros[at] = static_cast<uint8_t>(group.first().zero);
      out.first_scales[at] = group.first().scale;
      out.first_errors[at] = best.first_error;
      out.errors[at] = best.error;
    }
  });
  return out;
}

}  // namespace fettle::compress
