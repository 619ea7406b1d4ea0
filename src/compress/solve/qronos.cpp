#include "compress/solve/qronos.h"

#include <algorithm>
#include <cmath>

#include "compress/solve/blas.h"
#include "compress/solve/code_space.h"
#include "compress/solve/factor.h"
#include "compress/solve/objective.h"
#include "compress/solve/round_checks.h"
#include "compress/solve/sweep.h"

namespace fettle::compress {
namespace {

constexpr size_t kPanelRows = 64;

void check_cross(MatView<const float> g, size_t k) {
  if (g.rows != k || g.cols != k)
    fail(ErrorCode::kInput, "G: expected {} x {} for weights of {} columns, found {} x {}", k, k, k, g.rows, g.cols);
  for (size_t i = 0; i < k; ++i)
    for (size_t j = 0; j < k; ++j)
      if (!std::isfinite(g.row(i)[j]))
        fail(ErrorCode::kNumeric, "G: row {}, column {}: expected a finite number, found {}", i, j, g.row(i)[j]);
}

// The problem with rows and columns in processing order.
template <typename T>
struct Ordered {
  std::vector<int64_t> perm;
  std::vector<uint8_t> dead;  // by position
  std::vector<T> h, g;        // [K, K]
  std::vector<T> w;           // [N, K] original weights
  std::vector<T> v;           // [N, K] working weights, dead columns zero
  size_t n, k;
};

template <typename T>
Ordered<T> order(MatView<const float> w, MatView<const float> start, MatView<const float> h, MatView<const float> g,
                 bool act_order) {
  Ordered<T> p{.perm = act_order ? activation_order(h) : identity_order(h.rows),
               .dead = {},
               .h = {},
               .g = {},
               .w = {},
               .v = {},
               .n = w.rows,
               .k = w.cols};
  const size_t k = p.k;
  const auto at = [&](size_t t) { return static_cast<size_t>(p.perm[t]); };
  p.dead.resize(k);
  p.h.resize(k * k);
  p.g.resize(k * k);
  p.w.resize(p.n * k);
  p.v.resize(p.n * k);
  for (size_t i = 0; i < k; ++i) {
    p.dead[i] = h.row(at(i))[at(i)] == 0;
    for (size_t j = 0; j < k; ++j) {
      p.h[i * k + j] = static_cast<T>(h.row(at(i))[at(j)]);
      p.g[i * k + j] = static_cast<T>(g.row(at(i))[at(j)]);
    }
  }
  for (size_t r = 0; r < p.n; ++r)
    for (size_t t = 0; t < k; ++t) {
      p.w[r * k + t] = static_cast<T>(w.row(r)[at(t)]);
      p.v[r * k + t] = p.dead[t] ? T(0) : static_cast<T>(start.row(r)[at(t)]);
    }
  return p;
}

// Rounds position t of every row to the grid; q: [N] values, codes at the column of t.
template <typename T>
void round_column(const Grid& grid, int64_t col, std::span<T> q, std::span<uint8_t> codes) {
  const CodeSpace space = code_space(grid);
  for (size_t r = 0; r < q.size(); ++r) {
    const size_t at = grid.at(static_cast<int64_t>(r), col);
    const T s = static_cast<T>(grid.scales[at]);
    const float z = grid.zeros.empty() ? space.zero : static_cast<float>(grid.zeros[at]);
    const uint8_t code = space.encode(s != 0 ? q[r] / s : T(0), static_cast<T>(z));
    codes[r * static_cast<size_t>(grid.cols) + static_cast<size_t>(col)] = code;
    q[r] = static_cast<T>(space.value(code, z)) * s;
  }
}

struct Outcome {
  std::vector<uint8_t> codes;
  double condition = 0, float_bound = 0;
};

// One run with a fixed lambda; nullopt when H + lambda I cannot be factorised.
template <typename T>
std::optional<Outcome> run_qronos(const Ordered<T>& p, MatView<const float> h, Grid grid, double lambda, int64_t block,
                                  ThreadPool& pool) {
  const size_t n = p.n, k = p.k;
  const std::vector<uint8_t> none(k, 0);  // lambda keeps dead columns invertible, as upstream
  const auto u = robust_inverse_factor<T>(h, p.perm, none, lambda);
  if (!u) return std::nullopt;
  Outcome out{.codes = std::vector<uint8_t>(n * k), .condition = 0, .float_bound = 0};
  T low = (*u)[0], high = (*u)[0];
  for (size_t i = 0; i < k; ++i) {
    low = std::min(low, (*u)[i * k + i]);
    high = std::max(high, (*u)[i * k + i]);
  }
  out.condition = std::pow(static_cast<double>(high) / static_cast<double>(low), 2);

  // First column: q_1 = Q((w G[:,0] - v[1:] H[0,1:]^T) / H[0,0]).
  std::vector<T> q(n);
  pool.parallel_for(n, [&](size_t r) {
    double s = 0;
    for (size_t j = 0; j < k; ++j) s += static_cast<double>(p.w[r * k + j]) * static_cast<double>(p.g[j * k]);
    for (size_t j = 1; j < k; ++j) s -= static_cast<double>(p.v[r * k + j]) * static_cast<double>(p.h[j]);
    q[r] = p.h[0] != 0 ? static_cast<T>(s / static_cast<double>(p.h[0])) : T(0);
  });
  round_column<T>(grid, p.perm[0], q, out.codes);

  // b = w (G + lambda I); the others start from (b[1:] - q_1 H[0,1:]) (H[1:,1:] + lambda I)^-1, and that inverse is
  // U1^T U1 with U1 = U[1:,1:]. The full product b U^T U gives the unquantised optimum.
  const size_t m = k - 1;
  std::vector<T> v(n * m);
  std::vector<double> bound(n, 0.0);
  pool.parallel_chunks(n, kPanelRows, [&](size_t begin, size_t end) {
    const size_t rows = end - begin;
    std::vector<T> b(rows * k), c(rows * k), f(rows * k);
    blas::gemm(blas::Op::kNone, blas::Op::kNone, rows, k, k, T(1), p.w.data() + begin * k, k, p.g.data(), k, T(0),
               b.data(), k);
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 0; j < k; ++j) b[i * k + j] += static_cast<T>(lambda) * p.w[(begin + i) * k + j];
    blas::gemm(blas::Op::kNone, blas::Op::kTranspose, rows, k, k, T(1), b.data(), k, u->data(), k, T(0), c.data(), k);
    blas::gemm(blas::Op::kNone, blas::Op::kNone, rows, k, k, T(1), c.data(), k, u->data(), k, T(0), f.data(), k);
    // J of f = b (H + lambda I)^-1: f H f^T - 2 (b - lambda w) f^T = -f b^T - lambda |f|^2 + 2 lambda w f^T.
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 0; j < k; ++j) {
        const auto x = static_cast<double>(f[i * k + j]);
        bound[begin + i] += -x * static_cast<double>(b[i * k + j]) - lambda * x * x +
                            2 * lambda * x * static_cast<double>(p.w[(begin + i) * k + j]);
      }
    if (m == 0) return;
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 1; j < k; ++j) b[i * k + j] -= q[begin + i] * p.h[j];
    const T* u1 = u->data() + k + 1;
    blas::gemm(blas::Op::kNone, blas::Op::kTranspose, rows, m, m, T(1), b.data() + 1, k, u1, k, T(0), c.data(), m);
    blas::gemm(blas::Op::kNone, blas::Op::kNone, rows, m, m, T(1), c.data(), m, u1, k, T(0), v.data() + begin * m, m);
  });
  for (const double b : bound) out.float_bound += b;
  if (m > 0) sweep<T>(&grid, v, *u, p.perm, 1, block, SweepGroups::kFixed, out.codes, pool);
  return out;
}

std::vector<double> alphas(const QronosOptions& o) {
  if (!o.auto_alpha) return {o.alpha};
  std::vector<double> out = {o.alpha};
  for (const double a : {1e-6, 1e-5, 1e-4, 1e-3, 1e-2})
    if (a != o.alpha) out.push_back(a);
  return out;
}

template <typename T>
void solve(const Ordered<T>& p, MatView<const float> w, MatView<const float> h, MatView<const float> g,
           const QronosOptions& o, QronosResult* result, ThreadPool& pool) {
  RoundResult& r = result->rounded;
  const Grid grid = r.grid;
  const double sigma = spectral_norm(h);
  bool solved = false;
  double best_j = o.rtn_if_better ? result->qronos.rtn_j : std::numeric_limits<double>::infinity();
  std::vector<uint8_t> best = r.codes;
  for (const double alpha : alphas(o)) {
    double lambda = alpha * sigma;
    for (int retry = 0; retry <= 3; ++retry, lambda = std::max(lambda * 10, 1e-8 * sigma)) {
      const auto outcome = run_qronos(p, h, grid, lambda, o.block, pool);
      if (!outcome) continue;
      const double j = grid_objective(grid, outcome->codes, w, h, g, pool);
      if (!solved || j < result->qronos.j) {
        result->qronos = {.j = j,
                          .rtn_j = result->qronos.rtn_j,
                          .float_bound = outcome->float_bound,
                          .alpha = alpha,
                          .lambda = lambda,
                          .condition = outcome->condition};
        r.report.damping_used = lambda;
        r.report.retries = retry;
        if (j <= best_j) {
          best_j = j;
          best = outcome->codes;
        }
      }
      solved = true;
      break;
    }
  }
  r.codes = best;
  if (!solved || best_j < result->qronos.j) {
    r.report.fell_back_to_rtn = true;
    r.report.note = solved ? fmt::format("objective {:.6g} exceeds that of rounding to nearest, {:.6g}: rounded",
                                         result->qronos.j, best_j)
                           : "H could not be factorised: rounded to nearest";
    result->qronos.j = result->qronos.rtn_j;
  } else if (r.report.retries > 0) {
    r.report.note = fmt::format("H was not positive definite: lambda raised to {:.3g}", r.report.damping_used);
  }
}

}  // namespace

double grid_objective(const Grid& grid, std::span<const uint8_t> codes, MatView<const float> w, MatView<const float> h,
                      MatView<const float> g, ThreadPool& pool) {
  std::vector<float> q(w.rows * w.cols);
  pool.parallel_for(w.rows, [&](size_t r) {
    grid_row(grid, static_cast<int64_t>(r), codes.subspan(r * w.cols, w.cols),
             std::span(q).subspan(r * w.cols, w.cols));
  });
  return mismatch_objective(w, {q.data(), w.rows, w.cols}, h, g, pool);
}

QronosResult qronos_round(MatView<const float> w, MatView<const float> h, MatView<const float> g, const Grid& grid,
                          const QronosOptions& o, ThreadPool& pool, MatView<const float> start) {
  if (!(o.alpha > 0) || !std::isfinite(o.alpha))
    fail(ErrorCode::kUsage, "qronos: alpha {}: expected a positive number", o.alpha);
  check_problem(w, h, grid);
  check_cross(g, w.cols);
  if (start.data == nullptr) start = w;
  if (start.rows != w.rows || start.cols != w.cols)
    fail(ErrorCode::kInput, "starting weights: expected {} x {}, found {} x {}", w.rows, w.cols, start.rows,
         start.cols);
  QronosResult out{.rounded = rtn_round(w, h, grid, pool), .qronos = {}};
  RoundReport& report = out.rounded.report;
  const std::vector<uint8_t> dead = dead_columns(h);
  report.dead_columns = std::count(dead.begin(), dead.end(), 1);
  out.qronos.rtn_j = out.qronos.j = grid_objective(grid, out.rounded.codes, w, h, g, pool);
  if (report.dead_columns == static_cast<int64_t>(w.cols)) {
    report.fell_back_to_rtn = true;
    report.note = "no input was ever active: rounded to nearest";
    return out;
  }
  if (w.cols <= kWidestF64) {
    solve(order<double>(w, start, h, g, o.act_order), w, h, g, o, &out, pool);
  } else {
    solve(order<float>(w, start, h, g, o.act_order), w, h, g, o, &out, pool);
  }
  report.objective = relative_objective(w, h, grid, out.rounded.codes, pool);
  return out;
}

RoundResult gpfq_round(MatView<const float> w, MatView<const float> h, MatView<const float> g, const Grid& grid,
                       const GpfqOptions& o, ThreadPool& pool) {
  check_cross(g, w.cols);
  RoundResult out = rtn_round(w, h, grid, pool);
  const Ordered<double> p = order<double>(w, w, h, g, o.act_order);
  out.report.dead_columns = std::count(p.dead.begin(), p.dead.end(), 1);
  const CodeSpace space = code_space(grid);
  const size_t k = p.k;
  pool.parallel_for(p.n, [&](size_t r) {
    std::vector<double> up(k, 0.0);  // running sum_{j<=t} w_j G[j, :] - sum_{j<t} q_j H[j, :]
    for (size_t t = 0; t < k; ++t) {
      const double wt = p.w[r * k + t];
      for (size_t j = t; j < k; ++j) up[j] += wt * p.g[t * k + j];
      const double a = p.dead[t] ? 0.0 : up[t] / p.h[t * k + t];
      const int64_t col = p.perm[t];
      const size_t at = grid.at(static_cast<int64_t>(r), col);
      const double s = static_cast<double>(grid.scales[at]);
      const float z = grid.zeros.empty() ? space.zero : static_cast<float>(grid.zeros[at]);
      const uint8_t code = space.encode(s != 0 ? a / s : 0.0, static_cast<double>(z));
      out.codes[r * k + static_cast<size_t>(col)] = code;
      const double q = static_cast<double>(space.value(code, z)) * s;
      for (size_t j = t + 1; j < k; ++j) up[j] -= q * p.h[t * k + j];
    }
  });
  out.report.objective = relative_objective(w, h, grid, out.codes, pool);
  return out;
}

}  // namespace fettle::compress
