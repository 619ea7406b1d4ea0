#pragma once

#include <span>

#include "kv/kv_cache.h"

namespace fettle::kv {

// A run of query tokens of one sequence: rows [first_row, first_row + n_rows) of q, at positions first_pos, ... Their K
// and V must have been written.
struct AttnSeq {
  SeqId seq{};
  size_t first_row = 0, n_rows = 0;
  size_t first_pos = 0;
};

struct AttnOptions {
  float scale = 0;                    // of the scores; 0 = 1 / sqrt(head_dim)
  float softcap = 0;                  // > 0: softcap * tanh(score / softcap)
  size_t window = 0;                  // > 0: query position - key position < window
  std::span<const float> sinks = {};  // empty, or [query heads]
  kernels::AttnMath math = kernels::AttnMath::kAuto;
};

// Causal attention of one layer over a ragged batch. q, out: [rows, heads * head_dim] f32; heads must be a multiple of
// the cache's KV heads. Bits of a row do not depend on the batch, the chunking or the threads.
void attend(const KvCache& cache, int layer, std::span<const AttnSeq> batch, MatView<const float> q,
            const AttnOptions& options, ThreadPool& pool, kernels::AttnScratch& scratch, MatView<float> out);

}  // namespace fettle::kv
