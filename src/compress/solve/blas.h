#pragma once

#include <cstddef>
#include <vector>

// Row-major matrix products and factorisations in F32 and F64 through OpenBLAS, one thread per call: parallel callers
// split the work themselves, so results never depend on the number of threads.
namespace fettle::compress::blas {

enum class Op : bool { kNone, kTranspose };

// c[m,n] = alpha * op(a) op(b) + beta * c; op(a) is [m,k], op(b) is [k,n]; ld* are row strides of the stored matrices.
void gemm(Op ta, Op tb, size_t m, size_t n, size_t k, float alpha, const float* a, size_t lda, const float* b,
          size_t ldb, float beta, float* c, size_t ldc);
void gemm(Op ta, Op tb, size_t m, size_t n, size_t k, double alpha, const double* a, size_t lda, const double* b,
          size_t ldb, double beta, double* c, size_t ldc);

// In place: the lower triangle of a[n,n] becomes L with L L^T = a, the strict upper triangle stays. False when a is
// not positive definite (or holds NaN).
bool cholesky_lower(size_t n, float* a);
bool cholesky_lower(size_t n, double* a);

// In place: the lower triangle becomes its inverse. False when a diagonal element is zero.
bool invert_lower(size_t n, float* a);
bool invert_lower(size_t n, double* a);

}  // namespace fettle::compress::blas
