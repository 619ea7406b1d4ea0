#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/weight.h"

namespace fettle::compress {

// Row order of rotary projections. Hugging Face rotates the two halves of a head, GGUF's llama architecture rotates
// neighbours: GGUF row h*D + 2j + s is Hugging Face row h*D + s*D/2 + j. Result: source row of each target row.
std::vector<int64_t> to_adjacent_pairs(int64_t heads, int64_t head_dim);
std::vector<int64_t> to_split_halves(int64_t heads, int64_t head_dim);  // the inverse

// The same weight with rows in another order; all parts move, codes stay as they are. rows[i] = source row of row i.
PackedWeight permute_rows(const PackedWeight& w, std::span<const int64_t> rows);

// All values in F32, rows decoded in parallel: [rows * cols].
std::vector<float> decode_parallel(const PackedWeight& w, ThreadPool& pool);

// The same numbers as a GGUF block format, when one holds them exactly: MXFP4 as it is, NVFP4 with rows of whole 64s,
// symmetric INT8 as Q8_0 and INT4 as Q4_0 when groups are whole 32s and every scale is an F16 number. nullopt
// otherwise.
std::optional<PackedWeight> exact_gguf_form(const PackedWeight& w);

}  // namespace fettle::compress
