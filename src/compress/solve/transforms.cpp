#include "compress/solve/transforms.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>

#include "compress/solve/blas.h"

namespace fettle::compress {
namespace {

struct Name {
  Transform transform;
  std::string_view name;
};
constexpr Name kNames[] = {{Transform::kIdentity, "identity"},
                           {Transform::kHadamard, "hadamard"},
                           {Transform::kDct, "dct"},
                           {Transform::kDst, "dst"},
                           {Transform::kGsr, "gsr"}};

bool power_of_two(int64_t k) { return k > 0 && (k & (k - 1)) == 0; }

// In-place Walsh-Hadamard transform without the factor; n a power of two.
template <typename T>
void butterflies(T* x, size_t n) {
  for (size_t h = 1; h < n; h *= 2)
    for (size_t i = 0; i < n; i += 2 * h)
      for (size_t j = i; j < i + h; ++j) {
        const T a = x[j], b = x[j + h];
        x[j] = a + b;
        x[j + h] = a - b;
      }
}

// Column j of Sylvester's matrix: number of sign changes.
int sign_changes(size_t column, size_t k) {
  int n = 0, last = 1;
  for (size_t i = 0; i < k; ++i) {
    const int s = std::popcount(i & column) % 2 == 0 ? 1 : -1;
    n += i > 0 && s != last;
    last = s;
  }
  return n;
}

template <typename T>
void hadamard_in_place(std::span<T> x, HadamardSide side) {
  const auto n = static_cast<int64_t>(x.size());
  const int64_t odd = hadamard_odd_part(n);
  if (odd == 0) fail(ErrorCode::kUsage, "no Hadamard matrix of size {} is known here", n);
  const auto k = static_cast<size_t>(odd), inner = x.size() / k;
  for (size_t b = 0; b < k; ++b) butterflies(x.data() + b * inner, inner);
  if (k > 1) {
    const std::vector<int8_t> h = small_hadamard(odd);
    std::vector<T> out(x.size(), T(0));
    for (size_t i = 0; i < k; ++i)
      for (size_t j = 0; j < k; ++j) {
        const int8_t sign = side == HadamardSide::kPlain ? h[i * k + j] : h[j * k + i];
        T* to = out.data() + i * inner;
        const T* from = x.data() + j * inner;
        for (size_t c = 0; c < inner; ++c) to[c] += sign > 0 ? from[c] : -from[c];
      }
    std::copy(out.begin(), out.end(), x.begin());
  }
  const auto factor = static_cast<T>(1.0 / std::sqrt(static_cast<double>(n)));
  for (T& v : x) v *= factor;
}

}  // namespace

std::string_view transform_name(Transform t) {
  for (const Name& n : kNames)
    if (n.transform == t) return n.name;
  return "unknown";
}

Transform find_transform(std::string_view name) {
  for (const Name& n : kNames)
    if (n.name == name) return n.transform;
  fail(ErrorCode::kUsage, "transform '{}': expected identity, hadamard, dct, dst or gsr", printable(name));
}

std::vector<double> transform_matrix(Transform t, int64_t size) {
  constexpr int64_t kLargest = 16384;
  if (size < 1 || size > kLargest)
    fail(ErrorCode::kUsage, "{} block {}: expected 1 to {}", transform_name(t), size, kLargest);
  if ((t == Transform::kHadamard || t == Transform::kGsr) && !power_of_two(size))
    fail(ErrorCode::kUsage, "{} block {}: expected a power of two", transform_name(t), size);
  const auto k = static_cast<size_t>(size);
  const double n = static_cast<double>(k), pi = std::numbers::pi;
  std::vector<size_t> column(k);
  std::iota(column.begin(), column.end(), size_t{0});
  if (t == Transform::kGsr)
    std::sort(column.begin(), column.end(),
              [&](size_t a, size_t b) { return sign_changes(a, k) < sign_changes(b, k); });
  std::vector<double> m(k * k);
  for (size_t i = 0; i < k; ++i)
    for (size_t j = 0; j < k; ++j) {
      const double odd = 2.0 * static_cast<double>(i) + 1;
      double v = i == j ? 1.0 : 0.0;
      if (t == Transform::kHadamard || t == Transform::kGsr)
        v = (std::popcount(i & column[j]) % 2 == 0 ? 1.0 : -1.0) / std::sqrt(n);
      if (t == Transform::kDct)
        v = std::sqrt((j == 0 ? 1.0 : 2.0) / n) * std::cos(pi * odd * static_cast<double>(j) / (2 * n));
      if (t == Transform::kDst)
        v = std::sqrt((j + 1 == k ? 1.0 : 2.0) / n) * std::sin(pi * odd * static_cast<double>(j + 1) / (2 * n));
      m[i * k + j] = v;
    }
  return m;
}

void apply_blocks(Transform t, int64_t size, MatView<const float> x, MatView<float> out, ThreadPool& pool) {
  FETTLE_CHECK_EQ(x.rows, out.rows);
  FETTLE_CHECK_EQ(x.cols, out.cols);
  if (size < 1 || x.cols % static_cast<size_t>(size) != 0)
    fail(ErrorCode::kInput, "{} block {}: does not divide {} columns", transform_name(t), size, x.cols);
  const auto k = static_cast<size_t>(size);
  std::vector<float> m;
  if (t != Transform::kIdentity) {
    const std::vector<double> exact = transform_matrix(t, size);  // checks the size
    if (t != Transform::kHadamard) m.assign(exact.begin(), exact.end());
  }
  const auto factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(k)));
  pool.parallel_for(x.rows, [&](size_t r) {
    std::vector<float> block(k);
    for (size_t b = 0; b < x.cols; b += k) {
      const float* from = x.row(r) + b;
      float* to = out.row(r) + b;
      std::copy_n(from, k, block.data());
      if (t == Transform::kIdentity) {
        std::copy_n(block.data(), k, to);
      } else if (t == Transform::kHadamard) {
        butterflies(block.data(), k);
        for (size_t j = 0; j < k; ++j) to[j] = block[j] * factor;
      } else {
        for (size_t j = 0; j < k; ++j) {
          double s = 0;
          for (size_t i = 0; i < k; ++i) s += static_cast<double>(block[i]) * static_cast<double>(m[i * k + j]);
          to[j] = static_cast<float>(s);
        }
      }
    }
  });
}

std::vector<float> transform_hessian(Transform t, int64_t size, MatView<const float> h, ThreadPool& pool) {
  if (size < 1 || h.cols % static_cast<size_t>(size) != 0)
    fail(ErrorCode::kInput, "{} block {}: does not divide {} columns", transform_name(t), size, h.cols);
  const std::vector<double> m = transform_matrix(t, size);
  const auto k = static_cast<size_t>(size), n = h.cols;
  std::vector<float> out(n * n);
  pool.parallel_for(n / k, [&](size_t a) {
    std::vector<double> block(k * k), half(k * k);
    for (size_t b = 0; b < n / k; ++b) {
      for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j) block[i * k + j] = static_cast<double>(h.row(a * k + i)[b * k + j]);
      blas::gemm(blas::Op::kTranspose, blas::Op::kNone, k, k, k, 1.0, m.data(), k, block.data(), k, 0.0, half.data(),
                 k);
      blas::gemm(blas::Op::kNone, blas::Op::kNone, k, k, k, 1.0, half.data(), k, m.data(), k, 0.0, block.data(), k);
      for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < k; ++j) out[(a * k + i) * n + b * k + j] = static_cast<float>(block[i * k + j]);
    }
  });
  return out;
}

void hadamard_any(std::span<float> x, HadamardSide side) { hadamard_in_place(x, side); }
void hadamard_any(std::span<double> x, HadamardSide side) { hadamard_in_place(x, side); }

}  // namespace fettle::compress
