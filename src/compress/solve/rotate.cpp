#include "compress/solve/rotate.h"

#include <algorithm>
#include <cmath>

#include "compress/solve/blas.h"
#include "compress/solve/transforms.h"

namespace fettle::compress {
namespace {

std::vector<double> wide(MatView<const float> m) {
  std::vector<double> out(m.rows * m.cols);
  for (size_t r = 0; r < m.rows; ++r)
    for (size_t c = 0; c < m.cols; ++c) out[r * m.cols + c] = static_cast<double>(m.row(r)[c]);
  return out;
}

void narrow_into(std::span<const double> from, MatView<float> to) {
  for (size_t r = 0; r < to.rows; ++r)
    for (size_t c = 0; c < to.cols; ++c) to.row(r)[c] = static_cast<float>(from[r * to.cols + c]);
}

void check_square(const char* what, MatView<const float> r, size_t n) {
  if (r.rows != n || r.cols != n)
    fail(ErrorCode::kInput, "{}: expected a rotation of {} x {}, found {} x {}", what, n, n, r.rows, r.cols);
}

}  // namespace

void rotate_inputs(MatView<float> w, MatView<const float> r, ThreadPool& pool) {
  check_square("input rotation", r, w.cols);
  const std::vector<double> rotation = wide(r);
  pool.parallel_chunks(w.rows, 64, [&](size_t begin, size_t end) {
    const MatView<float> part = w.slice_rows(begin, end);
    const std::vector<double> x = wide(part);
    std::vector<double> y(x.size());
    blas::gemm(blas::Op::kNone, blas::Op::kNone, part.rows, w.cols, w.cols, 1.0, x.data(), w.cols, rotation.data(),
               w.cols, 0.0, y.data(), w.cols);
    narrow_into(y, part);
  });
}

void rotate_outputs(MatView<float> w, std::span<float> bias, MatView<const float> r, ThreadPool& pool) {
  check_square("output rotation", r, w.rows);
  if (!bias.empty() && bias.size() != w.rows)
    fail(ErrorCode::kInput, "output rotation: expected {} biases, found {}", w.rows, bias.size());
  const std::vector<double> rotation = wide(r);
  pool.parallel_chunks(w.cols, 64, [&](size_t begin, size_t end) {
    const MatView<float> part = w.slice_cols(begin, end);
    const std::vector<double> x = wide(part);
    std::vector<double> y(x.size());
    blas::gemm(blas::Op::kTranspose, blas::Op::kNone, w.rows, part.cols, w.rows, 1.0, rotation.data(), w.rows, x.data(),
               part.cols, 0.0, y.data(), part.cols);
    narrow_into(y, part);
  });
  if (!bias.empty()) rotate_inputs({bias.data(), 1, bias.size()}, r, pool);
}

void rotate_value_heads(MatView<float> v, std::span<float> bias, MatView<float> o, MatView<const float> r,
                        ThreadPool& pool) {
  const size_t d = r.rows;
  check_square("head rotation", r, d);
  if (d == 0 || v.rows % d != 0 || o.cols % d != 0)
    fail(ErrorCode::kInput, "head rotation of {}: does not divide {} value rows and {} output columns", d, v.rows,
         o.cols);
  for (size_t h = 0; h < v.rows; h += d)
    rotate_outputs(v.slice_rows(h, h + d), bias.empty() ? bias : bias.subspan(h, d), r, pool);
  for (size_t h = 0; h < o.cols; h += d) rotate_inputs(o.slice_cols(h, h + d), r, pool);
}

void fold_norm(MatView<float> w, std::span<const float> gamma) {
  if (gamma.size() != w.cols) fail(ErrorCode::kInput, "norm of {} weights before {} columns", gamma.size(), w.cols);
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c)
      w.row(r)[c] = static_cast<float>(static_cast<double>(w.row(r)[c]) * static_cast<double>(gamma[c]));
}

std::vector<float> randomised_hadamard(int64_t n, uint64_t seed) {
  const auto k = static_cast<size_t>(n);
  std::vector<float> out(k * k);
  uint64_t state = seed;
  for (size_t i = 0; i < k; ++i) {
    // splitmix64: one independent bit per row.
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    std::vector<double> row(k, 0.0);
    row[i] = (z >> 63) != 0 ? -1.0 : 1.0;
    hadamard_any(std::span<double>(row), HadamardSide::kPlain);
    for (size_t j = 0; j < k; ++j) out[i * k + j] = static_cast<float>(row[j]);
  }
  return out;
}

double orthogonality_error(MatView<const float> r) {
  const std::vector<double> x = wide(r);
  std::vector<double> y(r.rows * r.rows);
  blas::gemm(blas::Op::kNone, blas::Op::kTranspose, r.rows, r.rows, r.cols, 1.0, x.data(), r.cols, x.data(), r.cols,
             0.0, y.data(), r.rows);
  double worst = 0;
  for (size_t i = 0; i < r.rows; ++i)
    for (size_t j = 0; j < r.rows; ++j) worst = std::max(worst, std::fabs(y[i * r.rows + j] - (i == j ? 1.0 : 0.0)));
  return worst;
}

}  // namespace fettle::compress
