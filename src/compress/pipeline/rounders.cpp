#include "compress/pipeline/rounders.h"

#include <vector>

#include "compress/solve/objective.h"
#include "compress/solve/qronos.h"

namespace fettle::compress {
namespace {

Rounded with_gptq(const RoundJob& job, const Grid& grid) {
  GptqOptions o;
  if (job.options.damping >= 0) o.damping = job.options.damping;
  o.act_order = job.options.act_order;
  const RoundResult r = gptq_round(job.w, job.h, grid, o, job.pool);
  return {pack_grid(r.grid, r.codes), r.report};
}

Rounded with_qronos(const RoundJob& job, const Grid& grid) {
  QronosOptions o;
  if (job.options.damping >= 0) o.alpha = job.options.damping;
  o.act_order = job.options.act_order;
  const QronosResult r = qronos_round(job.w, job.h, job.g, grid, o, job.pool);
  Rounded out{pack_grid(r.rounded.grid, r.rounded.codes), r.rounded.report};
  const double energy = quadratic_form(job.w, job.h, job.pool), scale = energy > 0 ? 1 / energy : 1;
  out.report.objective = (r.qronos.j - r.qronos.float_bound) * scale;
  out.report.rtn_objective = (r.qronos.rtn_j - r.qronos.float_bound) * scale;
  return out;
}

constexpr Rounder kRounders[] = {
    {"gptq", false, &with_gptq},
    {"qronos", true, &with_qronos},
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
  return job.rounder.round(job, make_grid(job.w, job.format, job.numbers, job.options.search, importance, job.pool));
}

}  // namespace fettle::compress
