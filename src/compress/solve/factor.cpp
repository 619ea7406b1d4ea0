#include "compress/solve/factor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compress/solve/blas.h"

namespace fettle::compress {
namespace {

constexpr size_t kWidestFactorF64 = 4096;

template <typename To, typename From>
std::optional<std::vector<To>> converted(std::optional<std::vector<From>> v) {
  if (!v) return std::nullopt;
  return std::vector<To>(v->begin(), v->end());
}

}  // namespace

template <typename T>
std::optional<std::vector<T>> inverse_factor(MatView<const float> h, std::span<const int64_t> perm,
                                             std::span<const uint8_t> dead, double damping) {
  const size_t k = h.rows;
  std::vector<T> a(k * k, T(0));  // lower triangle of the reversed matrix
  for (size_t i = 0; i < k; ++i) {
    const auto pi = static_cast<size_t>(perm[k - 1 - i]);
    if (!dead[pi])
      for (size_t j = 0; j < i; ++j) {
        const auto pj = static_cast<size_t>(perm[k - 1 - j]);
        a[i * k + j] = dead[pj] ? T(0) : static_cast<T>(h.row(pi)[pj]);
      }
    const double diagonal = dead[pi] ? 1.0 : static_cast<double>(h.row(pi)[pi]);
    a[i * k + i] = static_cast<T>(diagonal + damping);
  }
  if (!blas::cholesky_lower(k, a.data()) || !blas::invert_lower(k, a.data())) return std::nullopt;
  std::reverse(a.begin(), a.end());  // both orders at once: element (i, j) moves to (k-1-i, k-1-j)
  return a;
}

template <typename T>
std::optional<std::vector<T>> robust_inverse_factor(MatView<const float> h, std::span<const int64_t> perm,
                                                    std::span<const uint8_t> dead, double damping) {
  if (h.rows > kWidestFactorF64)
    if (auto u = inverse_factor<float>(h, perm, dead, damping)) return converted<T>(std::move(u));
  return converted<T>(inverse_factor<double>(h, perm, dead, damping));
}

template std::optional<std::vector<float>> inverse_factor(MatView<const float>, std::span<const int64_t>,
                                                          std::span<const uint8_t>, double);
template std::optional<std::vector<double>> inverse_factor(MatView<const float>, std::span<const int64_t>,
                                                           std::span<const uint8_t>, double);
template std::optional<std::vector<float>> robust_inverse_factor(MatView<const float>, std::span<const int64_t>,
                                                                 std::span<const uint8_t>, double);
template std::optional<std::vector<double>> robust_inverse_factor(MatView<const float>, std::span<const int64_t>,
                                                                  std::span<const uint8_t>, double);

void check_hessian(MatView<const float> h, size_t k) {
  if (h.rows != k || h.cols != k)
    fail(ErrorCode::kInput, "H: expected {} x {} for weights of {} columns, found {} x {}", k, k, k, h.rows, h.cols);
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < k; ++j)
      if (!std::isfinite(h.row(i)[j]))
        fail(ErrorCode::kNumeric, "H: row {}, column {}: expected a finite number, found {}", i, j, h.row(i)[j]);
    if (h.row(i)[i] < 0)
      fail(ErrorCode::kNumeric, "H: diagonal element {}: expected a number >= 0, found {}", i, h.row(i)[i]);
  }
}

std::vector<uint8_t> dead_columns(MatView<const float> h) {
  std::vector<uint8_t> dead(h.rows);
  for (size_t i = 0; i < h.rows; ++i) dead[i] = h.row(i)[i] == 0;
  return dead;
}

double mean_live_diagonal(MatView<const float> h) {
  double sum = 0;
  size_t live = 0;
  for (size_t i = 0; i < h.rows; ++i) {
    sum += h.row(i)[i];
    live += h.row(i)[i] != 0;
  }
  return live > 0 ? sum / static_cast<double>(live) : 0.0;
}

std::vector<int64_t> identity_order(size_t k) {
  std::vector<int64_t> perm(k);
  std::iota(perm.begin(), perm.end(), 0);
  return perm;
}

std::vector<int64_t> activation_order(MatView<const float> h) {
  std::vector<int64_t> perm = identity_order(h.rows);
  std::stable_sort(perm.begin(), perm.end(), [&](int64_t a, int64_t b) {
    return h.row(static_cast<size_t>(a))[a] > h.row(static_cast<size_t>(b))[b];
  });
  return perm;
}

double spectral_norm(MatView<const float> h, int steps) {
  const size_t k = h.rows;
  std::vector<double> v(k, 1.0 / std::sqrt(static_cast<double>(k))), next(k);
  double norm = 0, last = 0;
  for (int step = 0; step < steps; ++step, last = norm) {
    for (size_t i = 0; i < k; ++i) {
      double s = 0;
      for (size_t j = 0; j < k; ++j) s += static_cast<double>(h.row(i)[j]) * v[j];
      next[i] = s;
    }
    norm = std::sqrt(std::inner_product(next.begin(), next.end(), next.begin(), 0.0));
    if (norm == 0 || std::fabs(norm - last) <= 1e-14 * norm) return norm;
    for (size_t i = 0; i < k; ++i) v[i] = next[i] / norm;
  }
  return norm;
}

}  // namespace fettle::compress
