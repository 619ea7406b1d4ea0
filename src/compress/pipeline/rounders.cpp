#include "compress/pipeline/rounders.h"

#include <vector>

namespace fettle::compress {
namespace {

constexpr Rounder kRounders[] = {
    {.name = "gptq"},
};

std::vector<float> diagonal(MatView<const float> h) {
  std::vector<float> out(h.rows);
  for (size_t k = 0; k < h.rows; ++k) out[k] = h.row(k)[k];
  return out;
}

}  // namespace

const Rounder* find_rounder(std::string_view name) {
  for (const Rounder& r : kRounders)
    if (r.name == name) return &r;
  return nullptr;
}

Rounded round_layer(const RoundJob& job) {
  const bool weighted = job.options.search == GridSearch::kImatrix || job.options.search == GridSearch::kHessian;
  const std::vector<float> importance = weighted ? diagonal(job.h) : std::vector<float>{};
  const Grid grid = make_grid(job.w, job.format, job.numbers, job.options.search, importance, job.pool);
  GptqOptions gptq;
  if (job.options.damping >= 0) gptq.damping = job.options.damping;
  gptq.act_order = job.options.act_order;
  const RoundResult result = gptq_round(job.w, job.h, grid, gptq, job.pool);
  return {pack_grid(result.grid, result.codes), result.report};
}

}  // namespace fettle::compress
