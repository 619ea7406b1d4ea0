#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

// Folding rotations into plain weight matrices (QuaRot, SpinQuant). Tokens are rows: x_rot = x R, R orthogonal. All
// products run in F64 and are rounded to F32 once. Matrices are changed in place.
namespace fettle::compress {

// W <- W R for readers of the rotated stream (embedding rows, q, k, v, gate, up, router, lm_head: R1; down: R4 with the
// input rotated on line). w [N, K], r [K, K].
void rotate_inputs(MatView<float> w, MatView<const float> r, ThreadPool& pool);

// W <- R^T W for writers to the rotated stream (o, down: R1), bias b <- b R (empty: none). w [N, K], r [N, N].
void rotate_outputs(MatView<float> w, std::span<float> bias, MatView<const float> r, ThreadPool& pool);

// R2, one r [head, head] for every KV head: rows of head h of W_v <- R2^T W_v[h], bias likewise; columns of every query
// head of W_o <- W_o[:, head] R2.
void rotate_value_heads(MatView<float> v, std::span<float> bias, MatView<float> o, MatView<const float> r,
                        ThreadPool& pool);

// Norm weights into their readers: W columns *= gamma, F64, rounded once; gamma itself becomes ones when all readers
// are done.
void fold_norm(MatView<float> w, std::span<const float> gamma);

// A random orthogonal Hadamard matrix: signs (a function of seed) before H / sqrt(n). kUsage when none is known.
std::vector<float> randomised_hadamard(int64_t n, uint64_t seed);

// Largest |R R^T - I|.
double orthogonality_error(MatView<const float> r);

}  // namespace fettle::compress
