#pragma once

#include <cmath>
#include <set>
#include <vector>

#include "compress/solve/grid.h"
#include "vector_files.h"

// Codes of a reference that rounds with error diffusion, one row after another: a value that lies on a rounding tie may
// go either way, and then the row's later codes differ as well.
namespace fettle::golden {

struct Diffusion {
  std::vector<uint8_t> codes;  // [N, K] of the reference
  compress::Grid grid;         // with zero points; the scales that the codes stand on
  std::vector<int64_t> order;  // position -> column
  std::vector<double> u;       // [K, K] upper factor of the damped inverse in that order; empty: no diffusion
  std::vector<double> v;       // [N, K] working weights in that order before the first one that errors diffuse from
  size_t first = 0;            // its position
};

// Rows in which `got` differs from the reference. Expects the first difference of a row (without diffusion: every one)
// to be that of a value within `tolerance` steps of a tie; the values follow from the reference's codes before it.
inline std::set<size_t> rows_with_ties(const Diffusion& want, std::span<const uint8_t> got, double tolerance) {
  const auto rows = static_cast<size_t>(want.grid.rows), k = static_cast<size_t>(want.grid.cols);
  std::set<size_t> out;
  for (size_t r = 0; r < rows; ++r) {
    const std::span row(want.v.data() + r * k, k);
    std::vector<double> v(row.begin(), row.end());
    for (size_t t = 0; t < k; ++t) {
      const size_t i = r * k + static_cast<size_t>(want.order[t]);
      const size_t at = want.grid.at(static_cast<int64_t>(r), want.order[t]);
      const double s = static_cast<double>(want.grid.scales[at]), x = v[t] / s;
      if (got[i] != want.codes[i]) {
        out.insert(r);
        EXPECT_NEAR(std::fabs(x - std::floor(x)), 0.5, tolerance) << "row " << r << " position " << t;
        if (!want.u.empty()) break;
      }
      if (want.u.empty() || t < want.first) continue;
      const double e = (v[t] - static_cast<double>(want.codes[i] - want.grid.zeros[at]) * s) / want.u[t * k + t];
      for (size_t j = t; j < k; ++j) v[j] -= e * want.u[t * k + j];
    }
  }
  return out;
}

// Four units in the last place of F32 numbers below 16: values that differ by the rounding of an F32 scale.
inline constexpr double kF32Tie = 4e-6;

inline std::vector<double> ordered(MatView<const float> w, std::span<const int64_t> order) {
  std::vector<double> v;
  for (size_t r = 0; r < w.rows; ++r)
    for (const int64_t c : order) v.push_back(static_cast<double>(w.row(r)[c]));
  return v;
}

}  // namespace fettle::golden
