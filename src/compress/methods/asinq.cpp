#include "compress/methods/asinq.h"

#include <limits>

#include "compress/methods/sinq.h"
#include "compress/solve/objective.h"
#include "compress/weight_tools.h"
#include "tensor/sinq/sinkhorn.h"

namespace fettle::compress {
double output_loss(MatView<const float> w, const PackedWeight& packed, MatView<const float> h, ThreadPool& pool) {
  std::vector<float> delta = decode_parallel(packed, pool);
  pool.parallel_chunks(w.rows, 64, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r)
      for (size_t k = 0; k < w.cols; ++k) delta[r * w.cols + k] -= w.row(r)[k];
  });
  return quadratic_form({delta.data(), w.rows, w.cols}, h, pool);
}

namespace {

std::vector<float> spread_rows(MatView<const float> w, size_t count) {
  std::vector<float> out;
  out.reserve(count * w.cols);
  for (size_t i = 0; i < count; ++i) {
    const std::span<const float> row = w.row_span(i * w.rows / count);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

// Index of the factors that lose least on a part of the rows; the first of equals.
size_t best_factors(const LayerJob& job, MatView<const float> h, const std::vector<std::vector<float>>& factors) {
  const size_t count = std::min(job.weight.rows, kAsinqRows);
  const std::vector<float> values = spread_rows(job.weight, count);
  const LayerJob part{job.name, {values.data(), count, job.weight.cols}, job.format, job.options, job.pool, job.search};
  double least = std::numeric_limits<double>::infinity();
  size_t best = 0;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double loss = output_loss(part.weight, quantise_with_factors(part, factors[i]), h, job.pool);
    if (!(loss < least)) continue;
    least = loss;
    best = i;
  }
  return best;
}

}  // namespace

AsinqResult quantise_asinq(const LayerJob& job, const InputMoments& inputs, sinq::AwqRule rule) {
  const MatView<const float> w = job.weight;
  const std::vector<float> mu = sinq::column_factors(w, sinq_tile(job), {}, &job.pool);
  const auto factors = sinq::asinq_factors(w, inputs.mean_abs, mu, rule);
  const auto loss = [&](const PackedWeight& p) { return output_loss(w, p, inputs.h, job.pool); };
  const size_t best = best_factors(job, inputs.h, factors);
  AsinqResult out;
  out.packed = quantise_with_factors(job, factors[best]);
  out.loss = loss(out.packed);
  out.rtn_loss = loss(encode(format_info(job.format), w, job.options, job.pool));
  out.alpha = static_cast<double>(best) / static_cast<double>(factors.size());
  if (rule == sinq::AwqRule::kUpstream) return out;
  const auto challenge = [&](const std::vector<float>& other, bool balanced) {
    PackedWeight p = quantise_with_factors(job, other);
    const double l = loss(p);
    if (!(l < out.loss)) return;
    out = {std::move(p), l, out.rtn_loss, 0, balanced};
  };
  if (best != 0) challenge(factors[0], true);
  challenge(std::vector<float>(w.cols, 1.0f), false);
  return out;
}

}  // namespace fettle::compress
