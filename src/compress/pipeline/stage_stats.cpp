#include "compress/pipeline/stage_stats.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fettle::compress {

using models::Stage;

namespace {

void require_finite(const StageInput& in, int block, Stage stage) {
  for (size_t r = 0; r < in.rows.rows; ++r) {
    float sum = 0;  // x - x is 0 for finite x and NaN otherwise
    for (const float x : in.rows.row_span(r)) sum += x - x;
    if (sum == 0) continue;
    const size_t token = stage == Stage::kFfnOut && !in.routes.empty() ? in.routes[r].token : r;
    fail(ErrorCode::kNumeric, "block {}, sample {}, token {}: non-finite activation at the {}", block, in.sample, token,
         models::stage_name(stage));
  }
}

// The rows that `expert` sees: a gathered copy at kFfnIn, a run of rows at kFfnOut.
MatView<const float> expert_rows(MatView<const float> rows, const models::Routes& routes, Stage stage, int expert,
                                 AlignedBuffer<float>& buffer) {
  size_t begin = 0;
  while (begin < routes.size() && routes[begin].expert < static_cast<uint32_t>(expert)) ++begin;
  size_t end = begin;
  while (end < routes.size() && routes[end].expert == static_cast<uint32_t>(expert)) ++end;
  if (stage == Stage::kFfnOut) return rows.slice_rows(begin, end);
  buffer.resize((end - begin) * rows.cols);
  MatView<float> out(buffer.data(), end - begin, rows.cols);
  for (size_t i = begin; i < end; ++i) std::copy_n(rows.row(routes[i].token), rows.cols, out.row(i - begin));
  return out;
}

void add_mean(MatView<const float> x, std::vector<float>* means) {
  std::vector<double> sum(x.cols, 0.0);
  for (size_t r = 0; r < x.rows; ++r)
    for (size_t k = 0; k < x.cols; ++k) sum[k] += static_cast<double>(x.row(r)[k]);
  for (const double s : sum) means->push_back(static_cast<float>(s / static_cast<double>(x.rows)));
}

}  // namespace

std::vector<float> InputStats::mean_abs() const {
  const auto n = static_cast<double>(std::max<int64_t>(tokens(), 1));
  std::vector<float> out(abs_sum.size());
  for (size_t k = 0; k < out.size(); ++k) out[k] = static_cast<float>(abs_sum[k] / n);
  return out;
}

std::vector<int64_t> count_expert_rows(BlockPass& pass, size_t samples, size_t experts) {
  std::vector<int64_t> out(experts);
  for (size_t i = 0; i < samples; ++i)
    for (const auto& choice : pass.routes(i)) ++out[choice.expert];
  return out;
}

void collect(BlockPass& pass, BlockPass* float_pass, int block, Stage stage, std::span<InputStats* const> stats,
             ThreadPool& pool) {
  AlignedBuffer<float> mine, theirs;
  pass.visit(stage, [&](const StageInput& in) {
    require_finite(in, block, stage);
    const MatView<const float> floats =
        float_pass ? float_pass->input(stage, in.sample, &in.routes) : MatView<const float>();
    for (InputStats* s : stats) {
      const bool all = s->expert < 0;
      const MatView<const float> x = all ? in.rows : expert_rows(in.rows, in.routes, stage, s->expert, mine);
      if (x.rows == 0) continue;
      s->h.add(x, pool);
      add_mean(x, &s->means);
      if (!s->abs_sum.empty())
        for (size_t r = 0; r < x.rows; ++r)
          for (size_t k = 0; k < x.cols; ++k) s->abs_sum[k] += static_cast<double>(std::fabs(x.row(r)[k]));
      if (s->g) s->g->add(all ? floats : expert_rows(floats, in.routes, stage, s->expert, theirs), x, pool);
    }
  });
}

}  // namespace fettle::compress
