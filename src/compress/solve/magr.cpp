#include "compress/solve/magr.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "compress/solve/blas.h"
#include "compress/solve/factor.h"
#include "compress/solve/objective.h"

namespace fettle::compress {
namespace {

constexpr size_t kPanelRows = 64;
// Steps above 1 / sigma_max may diverge, so the estimate, which is never above sigma_max, has to be converged.
constexpr int kPowerSteps = 2000;

// v - a * proj_L1(v / a): soft clipping at the level where the clipped parts sum to a; zero when |v|_1 <= a.
void proximal_infinity(std::span<double> v, double a) {
  double sum = 0;
  for (const double x : v) sum += std::fabs(x);
  if (sum <= a) {
    std::fill(v.begin(), v.end(), 0.0);
    return;
  }
  std::vector<double> u(v.size());
  for (size_t i = 0; i < v.size(); ++i) u[i] = std::fabs(v[i]);
  std::sort(u.begin(), u.end(), std::greater<>());
  double prefix = 0, level = 0;
  for (size_t i = 0; i < u.size(); ++i) {
    prefix += u[i];
    const double t = (prefix - a) / static_cast<double>(i + 1);
    if (u[i] > t) level = t;
  }
  for (double& x : v) x = std::clamp(x, -level, level);
}

}  // namespace

MagrResult magr(MatView<const float> w, MatView<const float> h, const MagrOptions& o, ThreadPool& pool) {
  check_hessian(h, w.cols);
  if (!(o.alpha >= 0) || o.steps < 0)
    fail(ErrorCode::kUsage, "magr: alpha {} and {} steps: expected numbers >= 0", o.alpha, o.steps);
  const size_t k = w.cols;
  MagrResult out;
  out.weights.resize(w.rows * k);
  for (size_t r = 0; r < w.rows; ++r) std::copy_n(w.row(r), k, out.weights.data() + r * k);
  const double sigma = spectral_norm(h, kPowerSteps);
  double norm = 0;
  std::vector<double> h64(k * k);
  for (size_t i = 0; i < k; ++i) {
    double column = 0;
    for (size_t j = 0; j < k; ++j) {
      h64[i * k + j] = static_cast<double>(h.row(i)[j]);
      column += std::fabs(h64[i * k + j]);  // H is symmetric: rows are columns
    }
    norm = std::max(norm, column);
  }
  if (sigma == 0) return out;  // no input was ever active
  out.eta = 1.0 / sigma;
  out.penalty = o.alpha / (out.eta * norm);
  pool.parallel_chunks(w.rows, kPanelRows, [&](size_t begin, size_t end) {
    const size_t rows = end - begin;
    std::vector<double> v(rows * k), d(rows * k), g(rows * k);
    for (size_t i = 0; i < rows * k; ++i) v[i] = static_cast<double>(w.row(begin + i / k)[i % k]);
    const std::vector<double> original = v;
    for (int step = 0; step < o.steps; ++step) {
      for (size_t i = 0; i < v.size(); ++i) d[i] = v[i] - original[i];
      blas::gemm(blas::Op::kNone, blas::Op::kNone, rows, k, k, out.eta, d.data(), k, h64.data(), k, 0.0, g.data(), k);
      for (size_t i = 0; i < v.size(); ++i) v[i] -= g[i];
      for (size_t r = 0; r < rows; ++r) proximal_infinity(std::span(v).subspan(r * k, k), out.penalty);
    }
    for (size_t i = 0; i < v.size(); ++i) out.weights[begin * k + i] = static_cast<float>(v[i]);
  });
  std::vector<float> change(out.weights.size());
  for (size_t i = 0; i < change.size(); ++i) change[i] = out.weights[i] - w.row(i / k)[i % k];
  const double whole = quadratic_form(w, h, pool);
  out.output_change = whole > 0 ? quadratic_form({change.data(), w.rows, k}, h, pool) / whole : 0.0;
  return out;
}

}  // namespace fettle::compress
