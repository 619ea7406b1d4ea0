#include "compress/pipeline/rounders.h"

#include <algorithm>
#include <vector>

#include "compress/methods/asinq.h"
#include "compress/methods/sinq.h"
#include "compress/solve/awq.h"
#include "compress/solve/objective.h"
#include "compress/solve/qronos.h"
#include "compress/solve/scale_estimation.h"
#include "compress/solve/smoothquant.h"
#include "compress/solve/transforms.h"

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

Rounded with_gpfq(const RoundJob& job, const Grid& grid) {
  const RoundResult r = gpfq_round(job.w, job.h, job.g, grid, {.act_order = job.options.act_order}, job.pool);
  Rounded out{pack_grid(r.grid, r.codes), r.report};
  // The constant of the mismatched objective needs the float stream's own moments, the difference between two choices
  // of codes does not: counted from the error of rounding to nearest.
  std::vector<uint8_t> rtn(r.codes.size());
  round_to_grid(grid, job.w, rtn, job.pool);
  const double energy = quadratic_form(job.w, job.h, job.pool);
  const double better = grid_objective(grid, rtn, job.w, job.h, job.g, job.pool) -
                        grid_objective(grid, r.codes, job.w, job.h, job.g, job.pool);
  out.report.objective = out.report.rtn_objective - (energy > 0 ? better / energy : 0);
  return out;
}

Rounded with_rtn(const RoundJob& job, const Grid& grid) {
  const RoundResult r = rtn_round(job.w, job.h, grid, job.pool);
  return {pack_grid(r.grid, r.codes), r.report};
}

LayerJob layer_job(const RoundJob& job) {
  const CompressOptions& c = job.options.compress;
  return {job.name, job.w, job.format, job.numbers, job.pool, c.search, c.kurtosis_gate};
}

Rounded judged(const RoundJob& job, PackedWeight packed, double loss, double rtn_loss) {
  const double energy = quadratic_form(job.w, job.h, job.pool), scale = energy > 0 ? 1 / energy : 1;
  Rounded out{std::move(packed), {}};
  out.report.objective = loss * scale;
  out.report.rtn_objective = rtn_loss * scale;
  return out;
}

Rounded asinq(const RoundJob& job, sinq::AwqRule rule) {
  AsinqResult r = quantise_asinq(layer_job(job), {job.h, job.mean_abs}, rule);
  Rounded out = judged(job, std::move(r.packed), r.loss, r.rtn_loss);
  out.report.fell_back_to_rtn = !r.balanced;
  out.report.note = r.balanced ? fmt::format("alpha {:.2f}", r.alpha) : "no column factors beat rounding to nearest";
  return out;
}

Rounded with_asinq(const RoundJob& job) { return asinq(job, sinq::AwqRule::kEffective); }
Rounded with_asinq_upstream(const RoundJob& job) { return asinq(job, sinq::AwqRule::kUpstream); }

Rounded with_sinq(const RoundJob& job) {
  PackedWeight p = quantise_sinq(layer_job(job));
  const double loss = output_loss(job.w, p, job.h, job.pool);
  const PackedWeight rtn = encode(format_info(job.format), job.w, job.numbers, job.pool);
  return judged(job, std::move(p), loss, output_loss(job.w, rtn, job.h, job.pool));
}

constexpr Rounder kRounders[] = {
    {"asinq", false, nullptr, Smoothing::kNone, &with_asinq},
    {"asinq-upstream", false, nullptr, Smoothing::kNone, &with_asinq_upstream},
    {"awq", false, &with_rtn, Smoothing::kAwq},
    {"gpfq", true, &with_gpfq},
    {"gptq", false, &with_gptq},
    {.name = "mr-gptq", .round = &with_gptq, .search = GridSearch::kHessian, .hadamard = -1},
    {"qronos", true, &with_qronos},
    {"rtn", false, &with_rtn},
    {"sinq", false, nullptr, Smoothing::kNone, &with_sinq},
    {"smoothquant", false, &with_rtn, Smoothing::kSmoothQuant},
};

bool weighted(GridSearch search) { return search == GridSearch::kImatrix || search == GridSearch::kHessian; }
bool needs_inputs(GridSearch search) { return weighted(search) || search == GridSearch::kScaleEstimation; }

std::vector<float> diagonal(MatView<const float> h) {
  std::vector<float> out(h.rows);
  for (size_t k = 0; k < h.rows; ++k) out[k] = h.row(k)[k];
  return out;
}

// Objective of plain rounding: without scaled channels, rotation or search. With x' = x / s the error D costs
// tr(D diag(s) H' diag(s) D^T).
double plain_rtn_objective(const RoundJob& job) {
  const size_t n = job.w.rows, k = job.w.cols;
  std::vector<float> w(job.w.data, job.w.data + n * k);
  const MatView<float> plain(w.data(), n, k);
  if (!job.scales.empty()) unscale_columns(plain, job.scales);
  FormatOptions numbers = job.numbers;
  numbers.fixed_global_scale = 0;  // that of the changed weights
  const Grid grid = make_grid(plain, job.format, numbers, GridSearch::kAbsMax, {}, job.pool);
  std::vector<uint8_t> codes(w.size());
  round_to_grid(grid, plain, codes, job.pool);
  std::vector<float> d = rounding_error(grid, plain, codes, job.pool);
  if (!job.scales.empty()) scale_columns({d.data(), n, k}, job.scales);
  const double energy = quadratic_form(job.w, job.h, job.pool);
  return energy > 0 ? quadratic_form({d.data(), n, k}, job.h, job.pool) / energy : 0;
}

// Codes of the weights and moments in `job`, as they are.
Rounded round_stored(const RoundJob& job) {
  if (job.rounder.encode) return job.rounder.encode(job);
  const GridSearch search = job.options.compress.search;
  const std::vector<float> importance = weighted(search) ? diagonal(job.h) : std::vector<float>{};
  const auto grid_of = [&](MatView<const float> w) {
    if (search == GridSearch::kScaleEstimation)
      return estimate_scales(w, job.means, job.format, job.numbers, job.pool).grid;
    return make_grid(w, job.format, job.numbers, search, importance, job.pool);
  };
  if (job.clip_rows.rows == 0) return job.rounder.round(job, grid_of(job.w));
  std::vector<float> clipped(job.w.data, job.w.data + job.w.rows * job.w.cols);
  const MatView<float> view(clipped.data(), job.w.rows, job.w.cols);
  apply_clip(view, awq_clip(job.w, job.clip_rows, job.format, job.numbers, 0, job.pool));
  return job.rounder.round(job, grid_of(view));
}

// The same for inputs that a Hadamard matrix rotates: w M, M^T H M, M^T G M.
Rounded round_rotated(const RoundJob& job) {
  const int64_t k = job.plan.stored.hadamard;
  std::vector<float> w(job.w.data, job.w.data + job.w.rows * job.w.cols);
  rotate_weights(job.plan, w, job.pool);
  const std::vector<float> h = transform_hessian(Transform::kHadamard, k, job.h, job.pool);
  const std::vector<float> g =
      job.g.rows > 0 ? transform_hessian(Transform::kHadamard, k, job.g, job.pool) : std::vector<float>{};
  RoundJob rotated = job;
  rotated.w = {w.data(), job.w.rows, job.w.cols};
  rotated.h = {h.data(), job.h.rows, job.h.cols};
  if (!g.empty()) rotated.g = {g.data(), job.g.rows, job.g.cols};
  std::vector<float> means(job.means.data, job.means.data + job.means.rows * job.means.cols);
  if (!means.empty()) {
    const MatView<float> view(means.data(), job.means.rows, job.means.cols);
    apply_blocks(Transform::kHadamard, k, view, view, job.pool);
    rotated.means = view;
  }
  Rounded out = round_stored(rotated);
  out.packed.input.hadamard = k;
  return out;
}

}  // namespace

const Rounder* find_rounder(std::string_view name) {
  for (const Rounder& r : kRounders)
    if (r.name == name) return &r;
  return nullptr;
}

void check_options(const CompressPlan& plan, const PipelineOptions& options) {
  const Rounder* usual = find_rounder(options.compress.method);
  if (usual && usual->encode && options.damping >= 0)
    fail(ErrorCode::kUsage, "--damping: method {} factorises nothing", usual->name);
  if (!needs_inputs(options.compress.search)) return;
  for (const LayerPlan& l : plan.layers)
    if (const Rounder* r = find_rounder(l.method); r && r->encode)
      fail(ErrorCode::kUsage, "--search: method {} takes absmax or mse", r->name);
}

bool needs_magnitudes(const CompressPlan& plan) {
  return std::any_of(plan.layers.begin(), plan.layers.end(), [](const LayerPlan& l) {
    const Rounder* r = find_rounder(l.method);
    return r && r->encode;
  });
}

bool is_calibrated(const PipelineOptions& options) {
  const auto calibrated = [](const std::string& method) {
    const Rounder* r = find_rounder(method);
    return r != nullptr && r->name != "rtn" && r->name != "sinq";
  };
  const std::vector<LayerRule>& rules = options.compress.rules;
  return calibrated(options.compress.method) || needs_inputs(options.compress.search) ||
         options.smoothing != Smoothing::kNone || options.target_bpw > 0 ||
         std::any_of(rules.begin(), rules.end(), [&](const LayerRule& r) { return r.method && calibrated(*r.method); });
}

bool needs_float_stream(const CompressPlan& plan) {
  return std::any_of(plan.layers.begin(), plan.layers.end(), [](const LayerPlan& l) {
    const Rounder* r = find_rounder(l.method);
    return r && r->cross;
  });
}

void use_method(PipelineOptions* options, const std::string& method) {
  options->compress.method = method;
  const Rounder plain, *found = find_rounder(method), &r = found ? *found : plain;
  options->smoothing = r.smoothing;
  options->compress.search = r.search;
  options->compress.hadamard = r.hadamard;
}

Rounded round_layer(const RoundJob& job) {
  const bool rotated = job.plan.stored.hadamard > 1;
  Rounded out = rotated ? round_rotated(job) : round_stored(job);
  if ((rotated || !job.scales.empty()) && !job.rounder.cross) out.report.rtn_objective = plain_rtn_objective(job);
  return out;
}

}  // namespace fettle::compress
