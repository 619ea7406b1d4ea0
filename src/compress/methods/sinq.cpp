#include "compress/methods/sinq.h"

#include "compress/methods/rtn.h"
#include "tensor/sinq/sinkhorn.h"

namespace fettle::compress {

PackedWeight quantise_with_factors(const LayerJob& job, std::span<const float> factors) {
  const MatView<const float> w = job.weight;
  FETTLE_CHECK_EQ(factors.size(), w.cols);
  std::vector<float> scaled(w.rows * w.cols);
  job.pool.parallel_chunks(w.rows, 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r)
      for (size_t c = 0; c < w.cols; ++c) scaled[r * w.cols + c] = w.row(r)[c] / factors[c];
  });
  FormatOptions options = job.options;
  options.fixed_global_scale = 0;  // fused layers have column factors of their own, so they share no scale
  PackedWeight p = quantise_rtn({job.name, {scaled.data(), w.rows, w.cols}, job.format, options, job.pool, job.search});
  p.input.col_scales = Tensor::from<float>(factors, {static_cast<int64_t>(w.cols)});
  return p;
}

int64_t sinq_tile(const LayerJob& job) {
  const auto cols = static_cast<int64_t>(job.weight.cols);
  const int64_t group = job.options.group_size;
  return group >= 16 && group < cols ? group : 64;
}

PackedWeight quantise_sinq(const LayerJob& job) {
  const bool gated = job.kurtosis_gate > 0 && sinq::kurtosis(job.weight) > job.kurtosis_gate;
  const std::vector<float> factors = gated ? std::vector<float>(job.weight.cols, 1.0f)
                                           : sinq::column_factors(job.weight, sinq_tile(job), {}, &job.pool);
  return quantise_with_factors(job, factors);
}

}  // namespace fettle::compress
