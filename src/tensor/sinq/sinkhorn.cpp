#include "tensor/sinq/sinkhorn.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace fettle::sinq {
namespace {

constexpr double kClipMin = 1e-3, kClipMax = 1e3, kEps = 1e-6;
constexpr double kStepMin = 0.7, kStepMax = 2.0, kLogMin = -0.3, kLogMax = 10.0;

// Deviations of all live rows and columns of tile * inverse_row * inverse_col. Dead ones are NaN.
struct Deviations {
  std::vector<double> row, col;
};

class Balancer {
 public:
  Balancer(MatView<const float> tile, const SinkhornOptions& options) : m_(tile), options_(options) {
    alive_row_.assign(m_.rows, true);
    alive_col_.assign(m_.cols, true);
    if (!options_.robust) return;
    std::vector<bool> row(m_.rows, false), col(m_.cols, false);
    for (size_t r = 0; r < m_.rows; ++r)
      for (size_t c = 0; c < m_.cols; ++c)
        if (m_.row(r)[c] != 0) row[r] = col[c] = true;
    const auto count = [](const std::vector<bool>& v) { return std::count(v.begin(), v.end(), true); };
    if (count(row) < 2 || count(col) < 2) return;
    alive_row_ = std::move(row);
    alive_col_ = std::move(col);
  }

  SinkhornFactors run() {
    const std::vector<double> no_row(m_.rows, 1.0), no_col(m_.cols, 1.0);
    Deviations d = deviations(no_row, no_col);
    const auto zero = [](double s) { return !(s > 0); };
    if (options_.robust && std::all_of(d.row.begin(), d.row.end(), zero) &&
        std::all_of(d.col.begin(), d.col.end(), zero))
      return {std::vector<float>(m_.cols, 1.0f), std::vector<float>(m_.rows, 1.0f), 1.0};  // nothing to balance
    if (options_.robust) rescale(&d);
    double target = kClipMax;
    for (const std::vector<double>* side : {&d.row, &d.col})
      for (const double s : *side)
        if (!std::isnan(s)) target = std::min(target, std::clamp(s, kClipMin, kClipMax));
    target += kEps;

    std::vector<double> log_row(m_.rows, 0.0), log_col(m_.cols, 0.0), best_row(log_row), best_col(log_col);
    double best = ratio(d);
    for (int k = 0; k < options_.order; ++k) {
      if (k > 0) d = deviations(inverse(log_row), inverse(log_col));
      const double found = ratio(d);
      if (!(found <= best)) break;  // a tie takes the later factors
      best = found;
      best_row = log_row;
      best_col = log_col;
      update(d.row, target, &log_row);
      update(d.col, target, &log_col);
    }
    return {exponentials(best_col), exponentials(best_row), best};
  }

  double start() const {
    const std::vector<double> no_row(m_.rows, 1.0), no_col(m_.cols, 1.0);
    return ratio(deviations(no_row, no_col));
  }

 private:
  // Powers of two that bring the smallest deviation to at least 1e-2, or the largest to 1e2.
  void rescale(Deviations* d) {
    double low = std::numeric_limits<double>::infinity(), high = 0;
    for (const std::vector<double>* side : {&d->row, &d->col})
      for (const double s : *side)
        if (!std::isnan(s)) {
          low = s > 0 ? std::min(low, s) : low;
          high = std::max(high, s);
        }
    if (!std::isfinite(low)) return;
    if (low < 2 * kClipMin) unit_ = std::exp2(std::ceil(std::log2(10 * kClipMin / low)));
    if (high * unit_ > kClipMax && low >= 2 * kClipMin) unit_ = std::exp2(std::floor(std::log2(0.1 * kClipMax / high)));
    for (std::vector<double>* side : {&d->row, &d->col})
      for (double& s : *side) s *= unit_;
  }

  Deviations deviations(const std::vector<double>& inverse_row, const std::vector<double>& inverse_col) const {
    Deviations out{std::vector<double>(m_.rows), std::vector<double>(m_.cols)};
    std::vector<double> sum(m_.cols, 0.0), square(m_.cols, 0.0), line(m_.cols);
    double live_rows = 0, live_cols = 0;
    for (size_t c = 0; c < m_.cols; ++c) live_cols += alive_col_[c] ? 1 : 0;
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    for (size_t r = 0; r < m_.rows; ++r) {
      if (!alive_row_[r]) {
        out.row[r] = kNone;
        continue;
      }
      live_rows += 1;
      const float* w = m_.row(r);
      double total = 0;
      for (size_t c = 0; c < m_.cols; ++c) {  // dead columns add zeros
        const double a = static_cast<double>(w[c]) * inverse_col[c] * inverse_row[r];
        line[c] = a;
        total += a;
        sum[c] += a;
        square[c] += a * a;
      }
      const double mean = total / live_cols;
      double spread = 0;
      for (size_t c = 0; c < m_.cols; ++c)
        if (alive_col_[c]) spread += (line[c] - mean) * (line[c] - mean);
      out.row[r] = unit_ * std::sqrt(spread / (live_cols - 1));
    }
    for (size_t c = 0; c < m_.cols; ++c) {
      if (!alive_col_[c]) {
        out.col[c] = kNone;
        continue;
      }
      const double spread = std::max(0.0, square[c] - sum[c] * sum[c] / live_rows);
      out.col[c] = unit_ * std::sqrt(spread / (live_rows - 1));
    }
    return out;
  }

  static double ratio(const Deviations& d) {
    double low = std::numeric_limits<double>::infinity(), high = 0;
    for (const std::vector<double>* side : {&d.row, &d.col})
      for (const double s : *side)
        if (!std::isnan(s)) {
          low = std::min(low, s);
          high = std::max(high, s);
        }
    return high / std::max(low, 1e-12);
  }

  static void update(const std::vector<double>& deviation, double target, std::vector<double>* logs) {
    for (size_t i = 0; i < logs->size(); ++i) {
      if (std::isnan(deviation[i])) continue;
      const double s = std::clamp(deviation[i], kClipMin, kClipMax);
      (*logs)[i] = std::clamp((*logs)[i] + std::log(std::clamp(s / target, kStepMin, kStepMax)), kLogMin, kLogMax);
    }
  }

  static std::vector<double> inverse(const std::vector<double>& logs) {
    std::vector<double> out(logs.size());
    for (size_t i = 0; i < logs.size(); ++i) out[i] = std::exp(-logs[i]);
    return out;
  }
  static std::vector<float> exponentials(const std::vector<double>& logs) {
    std::vector<float> out(logs.size());
    for (size_t i = 0; i < logs.size(); ++i) out[i] = static_cast<float>(std::exp(logs[i]));
    return out;
  }

  MatView<const float> m_;
  SinkhornOptions options_;
  std::vector<bool> alive_row_, alive_col_;
  double unit_ = 1;
};

}  // namespace

SinkhornFactors sinkhorn(MatView<const float> tile, const SinkhornOptions& options) {
  if (tile.rows < 2 || tile.cols < 2)
    return {std::vector<float>(tile.cols, 1.0f), std::vector<float>(tile.rows, 1.0f), 1.0};
  return Balancer(tile, options).run();
}

double imbalance(MatView<const float> tile, bool robust) {
  if (tile.rows < 2 || tile.cols < 2) return 1.0;
  return Balancer(tile, {.robust = robust}).start();
}

std::vector<float> column_factors(MatView<const float> w, int64_t tile, const SinkhornOptions& options,
                                  ThreadPool* pool) {
  FETTLE_CHECK(tile > 0);
  const auto width = static_cast<size_t>(tile);
  std::vector<float> out(w.cols, 1.0f);
  const auto one = [&](size_t begin, size_t end) {
    const SinkhornFactors f = sinkhorn(w.slice_cols(begin, end), options);
    std::copy(f.col.begin(), f.col.end(), out.begin() + static_cast<ptrdiff_t>(begin));
  };
  if (pool != nullptr) {
    pool->parallel_chunks(w.cols, width, one);
  } else {
    for (size_t begin = 0; begin < w.cols; begin += width) one(begin, std::min(begin + width, w.cols));
  }
  return out;
}

double kurtosis(MatView<const float> w) {
  const double n = static_cast<double>(w.rows) * static_cast<double>(w.cols);
  double sum = 0, second = 0, fourth = 0;
  for (size_t r = 0; r < w.rows; ++r) sum = std::accumulate(w.row(r), w.row(r) + w.cols, sum);
  const double mean = sum / n;
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) {
      const double d = static_cast<double>(w.row(r)[c]) - mean, square = d * d;
      second += square;
      fourth += square * square;
    }
  const double variance = std::max(second / n, 1e-6);
  return fourth / n / (variance * variance);
}

}  // namespace fettle::sinq
