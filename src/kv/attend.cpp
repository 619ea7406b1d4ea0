#include "kv/attend.h"

#include <cmath>
#include <vector>

#include "base/checked.h"

namespace fettle::kv {

void attend(const KvCache& cache, int layer, std::span<const AttnSeq> batch, MatView<const float> q,
            const AttnOptions& options, ThreadPool& pool, kernels::AttnScratch& scratch, MatView<float> out) {
  const auto head_dim = static_cast<size_t>(cache.layout().head_dim);
  kernels::AttnParams params;
  params.heads = q.cols / head_dim;
  params.scale = options.scale > 0 ? options.scale : 1.0f / std::sqrt(static_cast<float>(head_dim));
  params.softcap = options.softcap;
  params.window = narrow<uint32_t>(options.window, "attention window");
  params.sinks = options.sinks;
  params.math = options.math;
  std::vector<kernels::AttnSequence> sequences;
  sequences.reserve(batch.size());
  for (const AttnSeq& run : batch) {
    kernels::AttnSequence s;
    s.kv = cache.view(run.seq, layer, run.first_pos + run.n_rows);
    s.first_row = run.first_row;
    s.n_rows = run.n_rows;
    s.first_position = narrow<uint32_t>(run.first_pos, "position");
    sequences.push_back(s);
  }
  kernels::attention(sequences, params, q, pool, scratch, out);
}

}  // namespace fettle::kv
