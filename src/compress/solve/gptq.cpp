#include "compress/solve/gptq.h"

#include <algorithm>
#include <cmath>

#include "compress/solve/factor.h"
#include "compress/solve/objective.h"
#include "compress/solve/round_checks.h"
#include "compress/solve/sweep.h"

namespace fettle::compress {
namespace {

SweepGroups sweep_groups(const GptqOptions& o) {
  if (!o.dynamic_groups) return SweepGroups::kFixed;
  if (o.act_order && !o.permuted_groups)
    fail(ErrorCode::kUsage,
         "gptq: dynamic groups need columns in order: switch act_order off, or form groups in processing order");
  return SweepGroups::kDynamic;
}

// Rounds with one damping; false when H cannot be factorised.
template <typename T>
bool try_gptq(MatView<const float> w, MatView<const float> h, std::span<const int64_t> perm,
              std::span<const uint8_t> dead, double damping, const GptqOptions& o, RoundResult* out, ThreadPool& pool) {
  const auto u = robust_inverse_factor<T>(h, perm, dead, damping);
  if (!u) return false;
  const size_t k = w.cols;
  std::vector<T> v(w.rows * k);
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t t = 0; t < k; ++t) {
      const auto c = static_cast<size_t>(perm[t]);
      v[r * k + t] = dead[c] ? T(0) : static_cast<T>(w.row(r)[c]);
    }
  sweep<T>(&out->grid, v, *u, perm, 0, o.block, sweep_groups(o), out->codes, pool);
  return true;
}

}  // namespace

RoundResult rtn_round(MatView<const float> w, MatView<const float> h, const Grid& grid, ThreadPool& pool) {
  check_problem(w, h, grid);
  RoundResult out{.codes = std::vector<uint8_t>(w.rows * w.cols), .grid = grid, .report = {}};
  round_to_grid(grid, w, out.codes, pool);
  out.report.objective = relative_objective(w, h, grid, out.codes, pool);
  out.report.rtn_objective = out.report.objective;
  return out;
}

RoundResult gptq_round(MatView<const float> w, MatView<const float> h, const Grid& grid, const GptqOptions& o,
                       ThreadPool& pool) {
  const SweepGroups groups = sweep_groups(o);
  if (!(o.damping >= 0) || !(o.absolute_damping >= 0) || !std::isfinite(o.damping + o.absolute_damping))
    fail(ErrorCode::kUsage, "gptq: damping {} and {}: expected numbers >= 0", o.damping, o.absolute_damping);
  RoundResult out = rtn_round(w, h, grid, pool);
  const std::vector<uint8_t> dead = dead_columns(h);
  out.report.dead_columns = std::count(dead.begin(), dead.end(), 1);
  const double mean = mean_live_diagonal(h);
  if (mean == 0) {
    out.report.fell_back_to_rtn = true;
    out.report.note = "no input was ever active: rounded to nearest";
    return out;
  }
  const std::vector<int64_t> perm = o.act_order ? activation_order(h) : identity_order(w.cols);
  if (groups == SweepGroups::kDynamic && o.act_order) {
    out.grid.group_of.resize(w.cols);
    for (size_t t = 0; t < w.cols; ++t)
      out.grid.group_of[static_cast<size_t>(perm[t])] = static_cast<int32_t>(static_cast<int64_t>(t) / grid.group_size);
  }
  double damping = o.damping * mean + o.absolute_damping;
  for (int retry = 0; retry <= 3; ++retry) {
    const bool done = w.cols <= kWidestF64 ? try_gptq<double>(w, h, perm, dead, damping, o, &out, pool)
                                           : try_gptq<float>(w, h, perm, dead, damping, o, &out, pool);
    out.report.damping_used = damping;
    out.report.retries = retry;
    if (done) {
      out.report.objective = relative_objective(w, h, out.grid, out.codes, pool);
      if (retry > 0) out.report.note = fmt::format("H was not positive definite: damping raised to {:.3g}", damping);
      note_if_worse(&out.report);
      return out;
    }
    damping = std::max(damping * 10, 1e-8 * mean);
  }
  out.report.fell_back_to_rtn = true;
  out.report.note =
      fmt::format("H could not be factorised up to damping {:.3g}: rounded to nearest", out.report.damping_used);
  out.grid = grid;
  return out;
}

}  // namespace fettle::compress
