#include "tensor/sinq/asinq.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fettle::sinq {
namespace {

constexpr int kAlphas = 20;

// Scales of one alpha, brought to a geometric mid-range of 1 (the effective rule starts from mu_col).
std::vector<float> awq_scales(std::span<const float> base, std::span<const float> mean_weight, double alpha,
                              AwqRule rule) {
  std::vector<float> a(base.size());
  for (size_t k = 0; k < a.size(); ++k) {
    a[k] = std::max(static_cast<float>(std::pow(static_cast<double>(base[k]), alpha)), 1e-4f);
    if (rule == AwqRule::kUpstream) {
      const auto w = static_cast<float>(std::pow(static_cast<double>(mean_weight[k]), 1 - alpha)) + 1e-4f;
      a[k] = std::max(a[k] / w, 1e-4f);
    }
  }
  const auto [low, high] = std::minmax_element(a.begin(), a.end());
  const float middle = std::sqrt(*low * *high);
  for (float& v : a) v /= middle;
  return a;
}

// Loss of X (W' - W)^T; delta: [N, K].
double output_loss(MatView<const float> x, const std::vector<float>& delta, size_t rows, OutputLoss loss,
                   ThreadPool& pool) {
  std::vector<double> per_row(rows);
  pool.parallel_chunks(rows, 8, [&](size_t begin, size_t end) {
    for (size_t n = begin; n < end; ++n)
      for (size_t t = 0; t < x.rows; ++t) {
        const float *a = x.row(t), *d = delta.data() + n * x.cols;
        double sum = 0;
        for (size_t k = 0; k < x.cols; ++k) sum += static_cast<double>(a[k]) * static_cast<double>(d[k]);
        per_row[n] += loss == OutputLoss::kAbsolute ? std::fabs(sum) : sum * sum;
      }
  });
  double total = 0;
  for (const double v : per_row) total += v;
  return total / (static_cast<double>(rows) * static_cast<double>(x.rows));
}

std::vector<float> mean_abs_rows(MatView<const float> w) {
  std::vector<double> sum(w.cols, 0.0);
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) sum[c] += static_cast<double>(std::fabs(w.row(r)[c]));
  std::vector<float> out(w.cols);
  for (size_t c = 0; c < w.cols; ++c) out[c] = static_cast<float>(sum[c] / static_cast<double>(w.rows));
  return out;
}

// a of every alpha.
std::vector<std::vector<float>> all_scales(MatView<const float> w, std::span<const float> mean_abs,
                                           std::span<const float> mu_col, AwqRule rule) {
  FETTLE_CHECK(mean_abs.size() == w.cols && mu_col.size() == w.cols);
  const std::vector<float> mean_weight = mean_abs_rows(w);
  std::vector<float> base(mean_abs.begin(), mean_abs.end());
  if (rule == AwqRule::kEffective)
    for (size_t k = 0; k < base.size(); ++k) base[k] *= mu_col[k];
  std::vector<std::vector<float>> out;
  for (int i = 0; i < kAlphas; ++i)
    out.push_back(awq_scales(base, mean_weight, i / static_cast<double>(kAlphas), rule));
  return out;
}

std::vector<float> divided(std::span<const float> mu_col, std::span<const float> a) {
  std::vector<float> out(a.size());
  for (size_t k = 0; k < a.size(); ++k) out[k] = mu_col[k] / a[k];
  return out;
}

// The balanced strips of a matrix and their factors.
struct Balanced {
  std::vector<float> values, col, row;  // [N, K], [K], [N, tiles]
};

Balanced balance(MatView<const float> w, const Options& o, ThreadPool& pool) {
  const auto width = static_cast<size_t>(std::min<int64_t>(o.tile, static_cast<int64_t>(w.cols)));
  const size_t tiles = (w.cols + width - 1) / width;
  const bool on = o.balance && !(o.kurtosis_gate > 0 && kurtosis(w) > o.kurtosis_gate);
  Balanced b{std::vector<float>(w.rows * w.cols), std::vector<float>(w.cols, 1.0f),
             std::vector<float>(w.rows * tiles, 1.0f)};
  pool.parallel_chunks(w.cols, width, [&](size_t begin, size_t end) {
    if (on) {
      const SinkhornFactors f = sinkhorn(w.slice_cols(begin, end), o.sinkhorn);
      std::copy(f.col.begin(), f.col.end(), b.col.begin() + static_cast<ptrdiff_t>(begin));
      for (size_t r = 0; r < w.rows; ++r) b.row[r * tiles + begin / width] = f.row[r];
    }
    for (size_t r = 0; r < w.rows; ++r)
      for (size_t c = begin; c < end; ++c)
        b.values[r * w.cols + c] = w.row(r)[c] / b.col[c] / b.row[r * tiles + begin / width];
  });
  return b;
}

// Rounds balanced * a.
Quantised round_scaled(const Balanced& b, MatView<const float> w, std::span<const float> a,
                       std::span<const float> factors, const Options& o, ThreadPool& pool) {
  std::vector<float> scaled = b.values;
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c) scaled[r * w.cols + c] *= a[c];
  Options plain = o;
  plain.balance = false;
  Quantised q = quantise({scaled.data(), w.rows, w.cols}, plain, &pool);
  for (size_t i = 0; i < q.scale.size(); ++i) q.scale[i] *= b.row[i];
  q.col.assign(factors.begin(), factors.end());
  return q;
}

}  // namespace

AwqResult asinq(MatView<const float> w, std::span<const float> mean_abs, MatView<const float> sample,
                const Options& options, const AwqSearch& search, ThreadPool& pool) {
  if (options.square_tiles) fail(ErrorCode::kUsage, "asinq: expected column strips (1D tiling)");
  FETTLE_CHECK(sample.cols == w.cols && sample.rows > 0);
  const Balanced b = balance(w, options, pool);
  AwqResult out;
  double best = std::numeric_limits<double>::infinity();
  for (std::vector<float>& a : all_scales(w, mean_abs, b.col, search.rule)) {
    Quantised q = round_scaled(b, w, a, divided(b.col, a), options, pool);
    std::vector<float> delta = dequantise(q);
    for (size_t n = 0; n < w.rows; ++n)
      for (size_t k = 0; k < w.cols; ++k) delta[n * w.cols + k] -= w.row(n)[k];
    const double loss = output_loss(sample, delta, w.rows, search.loss, pool);
    out.losses.push_back(loss);
    if (!(loss < best)) continue;
    best = loss;
    out.alpha = static_cast<double>(out.losses.size() - 1) / kAlphas;
    out.weight = std::move(q);
    out.awq_scale = std::move(a);
  }
  return out;
}

std::vector<std::vector<float>> asinq_factors(MatView<const float> w, std::span<const float> mean_abs,
                                              std::span<const float> mu_col, AwqRule rule) {
  std::vector<std::vector<float>> out = all_scales(w, mean_abs, mu_col, rule);
  for (std::vector<float>& a : out) a = divided(mu_col, a);
  return out;
}

}  // namespace fettle::sinq
