#include "compress/solve/round_checks.h"

#include <cmath>

#include "compress/solve/factor.h"
#include "compress/solve/objective.h"

namespace fettle::compress {

void check_problem(MatView<const float> w, MatView<const float> h, const Grid& grid) {
  if (w.rows == 0 || w.cols == 0) fail(ErrorCode::kInput, "weights: {} x {}: expected a matrix", w.rows, w.cols);
  if (grid.rows != static_cast<int64_t>(w.rows) || grid.cols != static_cast<int64_t>(w.cols))
    fail(ErrorCode::kInput, "grid: expected {} x {} like the weights, found {} x {}", w.rows, w.cols, grid.rows,
         grid.cols);
  if (grid.group_size < 1) fail(ErrorCode::kInput, "grid: group size {}: expected at least 1", grid.group_size);
  const auto count = static_cast<size_t>(grid.rows * grid.groups());
  if (grid.scales.size() != count || (!grid.zeros.empty() && grid.zeros.size() != count))
    fail(ErrorCode::kInput, "grid: expected {} scales, found {} and {} zero points", count, grid.scales.size(),
         grid.zeros.size());
  for (size_t r = 0; r < w.rows; ++r)
    for (size_t c = 0; c < w.cols; ++c)
      if (!std::isfinite(w.row(r)[c]))
        fail(ErrorCode::kNumeric, "weights: row {}, column {}: expected a finite number, found {}", r, c, w.row(r)[c]);
  check_hessian(h, w.cols);
}

double relative_objective(MatView<const float> w, MatView<const float> h, const Grid& grid,
                          std::span<const uint8_t> codes, ThreadPool& pool) {
  const std::vector<float> error = rounding_error(grid, w, codes, pool);
  const double whole = quadratic_form(w, h, pool);
  return whole > 0 ? quadratic_form({error.data(), w.rows, w.cols}, h, pool) / whole : 0.0;
}

void note_if_worse(RoundReport* report) {
  if (!(report->objective > report->rtn_objective * 1.001)) return;
  if (!report->note.empty()) report->note += "; ";
  report->note +=
      fmt::format("error {:.4g} exceeds that of rounding to nearest, {:.4g}", report->objective, report->rtn_objective);
}

}  // namespace fettle::compress
