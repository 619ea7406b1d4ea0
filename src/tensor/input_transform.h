#pragma once

#include <span>

#include "tensor/weight.h"

// Scalar definition of InputTransform (weight.h). Everything is F32; a Hadamard block takes butterflies of distance 1,
// 2, 4, ... (a + b, a - b) and one multiplication by 1 / sqrt(k) at the end, so that every kernel level can give the
// same bits.
namespace fettle {

// 1 / sqrt(k) as the kernels use it.
float hadamard_factor(int64_t k);

// In place: each block of k becomes block . H / sqrt(k), H the Sylvester-Hadamard matrix. H is symmetric, so this is
// its own inverse up to rounding. x: a multiple of k elements.
void hadamard_blocks(std::span<float> x, int64_t k);

// x' = (x * col_scales) . blockdiag(M); out: [x.size()], must not overlap x.
void apply_input_transform(const InputTransform& t, std::span<const float> x, std::span<float> out);

// A row of the stored weight to a row of the weight, in place: row . blockdiag(M^T) . diag(col_scales).
void undo_input_transform(const InputTransform& t, std::span<float> row);

// A row of the weight to what has to be stored for it, in place: row . diag(1 / col_scales) . blockdiag(M), M
// orthogonal.
void to_stored_space(const InputTransform& t, std::span<float> row);

// Throws kInternal unless shapes, dtypes and divisibility hold for K = cols.
void check_input_transform(const InputTransform& t, int64_t cols);

// The transform of a block matrix M [k, k] of any float type: a Hadamard matrix of Sylvester's order becomes the exact
// one (BF16 entries are up to 0.02 % off 1 / sqrt(k)), anything else is kept as it is.
InputTransform block_rotation(const Tensor& matrix);

}  // namespace fettle
