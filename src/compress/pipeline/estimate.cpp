#include <algorithm>
#include <map>

#include "base/error.h"
#include "compress/pipeline/pipeline.h"
#include "compress/pipeline/rounders.h"
#include "io/model_files.h"
#include "models/config.h"

namespace fettle::compress {
PipelineEstimate estimate_pipeline(const std::string& model, const CompressPlan& plan, const PipelineOptions& options) {
  const io::ModelFiles files = io::resolve_model(model);
  const models::ModelConfig c = models::parse_hf_config(io::read_config(files), files.at("config.json"));
  const uint64_t passes = needs_float_stream(plan) ? 2 : 1;
  const auto length = static_cast<uint64_t>(options.calibration.seqlen);
  const uint64_t tokens = length * static_cast<uint64_t>(options.calibration.samples);
  const bool sparse = c.num_experts > 0;
  const auto ffn =
      static_cast<uint64_t>(sparse ? c.moe_intermediate_size * c.num_experts_per_tok : c.intermediate_size);
  const auto hidden = static_cast<uint64_t>(c.hidden_size), q = static_cast<uint64_t>(c.q_dim());
  PipelineEstimate e;
  e.streams = passes * tokens * hidden * sizeof(float);
  e.boundary = passes * tokens * std::max(q, ffn) * sizeof(float);
  std::map<int, uint64_t> blocks;
  for (const LayerPlan& l : plan.layers) {
    // Mapped float weights, prepared packed ones and the packed tensors that wait for the shard.
    blocks[block_of(l.module)] += l.bytes_before + 2 * l.bytes_after;
    // Scaled weights are kept in F32, a candidate's and a stage's inputs beside them.
    if (options.smoothing != Smoothing::kNone)
      blocks[block_of(l.module)] += static_cast<uint64_t>(l.rows * l.cols) * 2 * sizeof(float) * passes;
    const auto k = static_cast<uint64_t>(l.cols), n = static_cast<uint64_t>(l.rows);
    const uint64_t wide = k <= 1024 ? sizeof(double) : sizeof(float);
    // Moments: lower half in F64 and the F32 mean; factor and its source; weights in F32, working copy and codes.
    const uint64_t moments = passes * (k * k * (sizeof(double) / 2 + sizeof(float)));
    const uint64_t factor = k * k * (k <= 4096 ? 2 * sizeof(double) : 2 * sizeof(float));
    // Without a solver: weights, the scaled copy, decoded values and packed codes.
    const Rounder* rounder = find_rounder(l.method);
    const uint64_t work = rounder == nullptr || rounder->round ? factor + n * k * (sizeof(float) + wide + 1)
                                                               : n * k * (3 * sizeof(float) + 1);
    e.solver = std::max(e.solver, moments + work);
  }
  for (const auto& [block, bytes] : blocks) e.block = std::max(e.block, bytes);
  const auto kv = static_cast<uint64_t>(c.kv_dim());
  if (options.smoothing == Smoothing::kAwq)
    e.block += (kSmoothingTokens + length) * sizeof(float) * (2 * std::max(q, ffn) + 2 * hidden);
  e.sample = length * sizeof(float) * (4 * hidden + 2 * (q + 2 * kv) + 2 * ffn);
  e.disk = plan.bytes_after;
  if (options.mem_limit == 0) return e;
  e.spilled = e.memory() > options.mem_limit;
  if (e.spilled) e.disk += e.streams + e.boundary;
  if (e.memory() > options.mem_limit)
    fail(ErrorCode::kResource, "--mem-limit: expected at least {} bytes for one block, found {}", e.memory(),
         options.mem_limit);
  return e;
}

}  // namespace fettle::compress
