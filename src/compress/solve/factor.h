#pragma once

#include <optional>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace fettle::compress {

// Row-major upper triangular U [K, K] with U^T U = (P (H + damping I) P^T)^-1, P the permutation perm (row i of the
// permuted matrix is row perm[i]); zeros below the diagonal. nullopt when the matrix is not positive definite in T.
//   Computed as the inverse of R in H = R R^T, R upper, which is the Cholesky factor of H with rows and columns in
//   reverse order: one factorisation and one triangular inverse, 2/3 K^3 multiply-adds, instead of Cholesky, inverse
//   and Cholesky again.
// dead[j] != 0: row and column j count as those of the identity.
template <typename T>
std::optional<std::vector<T>> inverse_factor(MatView<const float> h, std::span<const int64_t> perm,
                                             std::span<const uint8_t> dead, double damping);

// Solvers work in F64 up to this width, where its cost does not show, and in F32 above.
inline constexpr size_t kWidestF64 = 1024;

// Factorises in F64 up to 4096 columns; above in F32, and in F64 when that fails. Result in T.
template <typename T>
std::optional<std::vector<T>> robust_inverse_factor(MatView<const float> h, std::span<const int64_t> perm,
                                                    std::span<const uint8_t> dead, double damping);

// Throws kInput unless h is [k, k], kNumeric when an element is not finite or a diagonal element is negative.
void check_hessian(MatView<const float> h, size_t k);

std::vector<uint8_t> dead_columns(MatView<const float> h);      // diag(H) == 0
double mean_live_diagonal(MatView<const float> h);              // 0 when every column is dead
std::vector<int64_t> activation_order(MatView<const float> h);  // descending diag(H), stable
std::vector<int64_t> identity_order(size_t k);

// Largest eigenvalue of symmetric positive h by power iteration from the constant vector, F64. The default number of
// steps is Qronos's; more stop where a step changes the result by less than 1e-14 of it.
double spectral_norm(MatView<const float> h, int steps = 30);

}  // namespace fettle::compress
