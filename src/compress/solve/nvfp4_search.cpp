#include "compress/solve/nvfp4_search.h"

#include "compress/solve/group_fit.h"
#include "tensor/formats/encode_common.h"

namespace fettle::compress {
namespace {

constexpr size_t kGroup = 16, kSampleGroups = size_t{1} << 16;
constexpr float kStarts[] = {1.0f, 1.15f, 1.33f, 1.6f};

struct Round {
  double error = 0, wyv = 0, wvv = 0;  // totals of w (x - v)^2, w x v, w v v with v in units of the tensor scale
};

// Best codes of every sampled group at tensor scale s. Partial sums per row, added in row order.
Round run_round(MatView<const float> w, std::span<const size_t> rows, std::span<const float> importance, float s,
                ThreadPool& pool) {
  std::vector<Round> part(rows.size());
  pool.parallel_for(rows.size(), [&](size_t i) {
    const float* x = w.row(rows[i]);
    Round& p = part[i];
    for (size_t k = 0; k < w.cols; k += kGroup) {
      const auto weights = importance.empty() ? importance : importance.subspan(k, kGroup);
      const GroupFit fit = fit_nvfp4(s, GridSearch::kHessian, {x + k, kGroup}, weights);
      p.error += fit.error;
      for (size_t j = 0; j < kGroup; ++j) {
        const double v =
            static_cast<double>(formats::e2m1_to_f32(to_e2m1(x[k + j] / fit.scale))) * formats::e4m3_to_f32(fit.stored);
        const double weight = weights.empty() ? 1.0 : weights[j];
        p.wyv += weight * x[k + j] * v;
        p.wvv += weight * v * v;
      }
    }
  });
  Round total;
  for (const Round& p : part) {
    total.error += p.error;
    total.wyv += p.wyv;
    total.wvv += p.wvv;
  }
  return total;
}

}  // namespace

float search_nvfp4_tensor_scale(MatView<const float> w, std::span<const float> importance, ThreadPool& pool) {
  const float top = formats::matrix_abs_max(w, &pool);
  if (top == 0) return 1.0f;
  const size_t per_row = w.cols / kGroup, step = std::max<size_t>(1, w.rows * per_row / kSampleGroups);
  std::vector<size_t> rows;
  for (size_t r = 0; r < w.rows; r += step) rows.push_back(r);
  double best_error = std::numeric_limits<double>::infinity();
  float best = 0;
  for (const float m : kStarts) {
    // Bounded as nvfp4_global_scale bounds its divisor.
    float s = std::max(m * top / (formats::kE4M3Max * formats::kE2M1Max), 0x1p-126f);
    double last = std::numeric_limits<double>::infinity();
    for (int round = 0; round < 8; ++round) {
      const Round r = run_round(w, rows, importance, s, pool);
      if (r.error < best_error) {
        best_error = r.error;
        best = s;
      }
      if (!(r.error < last * (1 - 1e-6)) || !(r.wvv > 0) || !(r.wyv > 0)) break;
      last = r.error;
      const auto next = static_cast<float>(r.wyv / r.wvv);
      if (!std::isnormal(next)) break;
      s = next;
    }
  }
  return best > 0 ? best : top / (formats::kE4M3Max * formats::kE2M1Max);
}

}  // namespace fettle::compress
