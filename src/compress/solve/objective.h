#pragma once

#include "base/thread_pool.h"
#include "compress/solve/grid.h"

namespace fettle::compress {

// tr(D H D^T) for D [N, K], H [K, K] symmetric: products in F64 up to 1024 columns, F32 above; sums in F64. Half the
// multiply-adds of D H: tiles above the diagonal stand for those below. Costs N K^2 / 2 multiply-adds.
double quadratic_form(MatView<const float> d, MatView<const float> h, ThreadPool& pool);

// W - grid values: [rows * cols].
std::vector<float> rounding_error(const Grid& grid, MatView<const float> w, std::span<const uint8_t> codes,
                                  ThreadPool& pool);

// J(Q) = tr(Q H Q^T) - 2 tr(W G Q^T), G's row = float index: the mismatched objective |X W^T - Xq Q^T|^2 / T without
// the constant tr(W S W^T). F64.
double mismatch_objective(MatView<const float> w, MatView<const float> q, MatView<const float> h,
                          MatView<const float> g, ThreadPool& pool);

}  // namespace fettle::compress
