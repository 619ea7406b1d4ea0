#include "compress/solve/objective.h"

#include <algorithm>
#include <type_traits>

#include "base/checked.h"
#include "compress/solve/blas.h"
#include "compress/solve/factor.h"

namespace fettle::compress {
namespace {

constexpr size_t kPanelRows = 64, kTile = 256;

// Row-major copy in T.
template <typename T>
std::vector<T> copy_of(MatView<const float> m) {
  std::vector<T> out(m.rows * m.cols);
  for (size_t r = 0; r < m.rows; ++r) std::copy_n(m.row(r), m.cols, out.data() + r * m.cols);
  return out;
}

template <typename T>
struct Matrix {
  std::vector<T> own;
  const T* data;
  size_t stride;
  explicit Matrix(MatView<const float> m) {
    if constexpr (std::is_same_v<T, float>) {
      data = m.data;
      stride = m.stride;
    } else {
      own = copy_of<T>(m);
      data = own.data();
      stride = m.cols;
    }
  }
};

template <typename T>
double symmetric_trace(MatView<const float> d_view, MatView<const float> h_view, ThreadPool& pool) {
  const Matrix<T> d(d_view), h(h_view);
  const size_t k = d_view.cols;
  std::vector<double> part(ceil_div(std::max<size_t>(d_view.rows, 1), kPanelRows), 0.0);
  pool.parallel_chunks(d_view.rows, kPanelRows, [&](size_t begin, size_t end) {
    const size_t rows = end - begin;
    std::vector<T> product(rows * kTile);
    double sum = 0;
    for (size_t c = 0; c < k; c += kTile) {
      const size_t n = std::min(kTile, k - c);
      // Rows c..k-1 of H in these columns; those below the diagonal tile count twice.
      for (int half = 0; half < 2; ++half) {
        const size_t from = half == 0 ? c : c + n, to = half == 0 ? c + n : k;
        if (from >= to) continue;
        blas::gemm(blas::Op::kNone, blas::Op::kNone, rows, n, to - from, T(1), d.data + begin * d.stride + from,
                   d.stride, h.data + from * h.stride + c, h.stride, T(0), product.data(), n);
        double s = 0;
        for (size_t r = 0; r < rows; ++r)
          for (size_t j = 0; j < n; ++j)
            s += static_cast<double>(product[r * n + j]) * static_cast<double>(d.data[(begin + r) * d.stride + c + j]);
        sum += half == 0 ? s : 2 * s;
      }
    }
    part[begin / kPanelRows] = sum;
  });
  double total = 0;
  for (const double p : part) total += p;
  return total;
}

}  // namespace

double quadratic_form(MatView<const float> d, MatView<const float> h, ThreadPool& pool) {
  FETTLE_CHECK_EQ(d.cols, h.rows);
  return d.cols <= kWidestF64 ? symmetric_trace<double>(d, h, pool) : symmetric_trace<float>(d, h, pool);
}

std::vector<float> rounding_error(const Grid& grid, MatView<const float> w, std::span<const uint8_t> codes,
                                  ThreadPool& pool) {
  std::vector<float> out(w.rows * w.cols);
  pool.parallel_for(w.rows, [&](size_t r) {
    const std::span<float> row(out.data() + r * w.cols, w.cols);
    grid_row(grid, static_cast<int64_t>(r), codes.subspan(r * w.cols, w.cols), row);
    for (size_t c = 0; c < w.cols; ++c) row[c] = w.row(r)[c] - row[c];
  });
  return out;
}

double mismatch_objective(MatView<const float> w, MatView<const float> q, MatView<const float> h,
                          MatView<const float> g, ThreadPool& pool) {
  const size_t k = w.cols;
  const Matrix<double> g64(g);
  std::vector<double> part(ceil_div(std::max<size_t>(w.rows, 1), kPanelRows), 0.0);
  pool.parallel_chunks(w.rows, kPanelRows, [&](size_t begin, size_t end) {
    const auto rows = copy_of<double>(w.slice_rows(begin, end));
    std::vector<double> wg(rows.size());
    blas::gemm(blas::Op::kNone, blas::Op::kNone, end - begin, k, k, 1.0, rows.data(), k, g64.data, g64.stride, 0.0,
               wg.data(), k);
    double s = 0;
    for (size_t r = begin; r < end; ++r)
      for (size_t c = 0; c < k; ++c) s += wg[(r - begin) * k + c] * static_cast<double>(q.row(r)[c]);
    part[begin / kPanelRows] = s;
  });
  double cross = 0;
  for (const double p : part) cross += p;
  return quadratic_form(q, h, pool) - 2 * cross;
}

}  // namespace fettle::compress
