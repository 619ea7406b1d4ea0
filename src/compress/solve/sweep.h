#pragma once

#include <cstdint>
#include <span>

#include "compress/solve/grid.h"

namespace fettle::compress {

// Groups during a sweep.
enum class SweepGroups : uint8_t {
  kFixed,    // scales of the grid
  kDynamic,  // recomputed from the updated weights when the first column of a group is reached; the columns of a group
             // must follow one another in the processing order
};

// The loop of GPTQ (arXiv 2210.17323, algorithm 1): columns in processing order, each rounded on the grid, its error
// diffused to the columns after it.
//   for t in order: q = Q(v_t); e = (v_t - q) / U_tt; v[t:] -= e U[t, t:]
// v: [N, K - first] working weights of positions first .. K-1, clobbered; u: [K, K] upper factor, both in processing
// order; perm: position -> column of the grid; codes: [N, K] in column order, written for these positions.
// Updates are applied in blocks of `block` columns (any block size gives the same result up to rounding). Rows are
// split in fixed panels over the pool.
template <typename T>
void sweep(Grid* grid, std::span<T> v, std::span<const T> u, std::span<const int64_t> perm, size_t first, int64_t block,
           SweepGroups groups, std::span<uint8_t> codes, ThreadPool& pool);

}  // namespace fettle::compress
