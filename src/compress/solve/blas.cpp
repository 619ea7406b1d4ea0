#include "compress/solve/blas.h"

#include <cblas.h>

#include <cmath>
#include <mutex>

#include "base/checked.h"

// LAPACK of OpenBLAS, by its Fortran names: column-major, so a row-major lower triangle is their upper one.
extern "C" {
void spotrf_(const char* uplo, const blasint* n, float* a, const blasint* lda, blasint* info);
void dpotrf_(const char* uplo, const blasint* n, double* a, const blasint* lda, blasint* info);
void strtri_(const char* uplo, const char* diag, const blasint* n, float* a, const blasint* lda, blasint* info);
void dtrtri_(const char* uplo, const char* diag, const blasint* n, double* a, const blasint* lda, blasint* info);
}

namespace fettle::compress::blas {
namespace {

// Every call runs on the caller's thread. OpenBLAS's serial build shares buffers between callers without a lock, so its
// calls take turns; the threaded builds may be called from several threads.
class Call {
 public:
  Call() {
    static const bool serial = (openblas_set_num_threads(1), openblas_get_parallel() == OPENBLAS_SEQUENTIAL);
    static std::mutex turn;
    if (serial) lock_ = std::unique_lock(turn);
  }

 private:
  std::unique_lock<std::mutex> lock_;
};

CBLAS_TRANSPOSE op(Op o) { return o == Op::kTranspose ? CblasTrans : CblasNoTrans; }
blasint dim(size_t n) { return narrow<blasint>(n, "matrix dimension"); }

template <typename T>
bool finite_diagonal(size_t n, const T* a) {
  for (size_t i = 0; i < n; ++i)
    if (!std::isfinite(a[i * n + i]) || a[i * n + i] <= 0) return false;
  return true;
}

}  // namespace

void gemm(Op ta, Op tb, size_t m, size_t n, size_t k, float alpha, const float* a, size_t lda, const float* b,
          size_t ldb, float beta, float* c, size_t ldc) {
  if (m == 0 || n == 0) return;
  const Call call;
  cblas_sgemm(CblasRowMajor, op(ta), op(tb), dim(m), dim(n), dim(k), alpha, a, dim(lda), b, dim(ldb), beta, c,
              dim(ldc));
}

void gemm(Op ta, Op tb, size_t m, size_t n, size_t k, double alpha, const double* a, size_t lda, const double* b,
          size_t ldb, double beta, double* c, size_t ldc) {
  if (m == 0 || n == 0) return;
  const Call call;
  cblas_dgemm(CblasRowMajor, op(ta), op(tb), dim(m), dim(n), dim(k), alpha, a, dim(lda), b, dim(ldb), beta, c,
              dim(ldc));
}

bool cholesky_lower(size_t n, float* a) {
  const Call call;
  const blasint size = dim(n);
  blasint info = 0;
  spotrf_("U", &size, a, &size, &info);
  return info == 0 && finite_diagonal(n, a);
}

bool cholesky_lower(size_t n, double* a) {
  const Call call;
  const blasint size = dim(n);
  blasint info = 0;
  dpotrf_("U", &size, a, &size, &info);
  return info == 0 && finite_diagonal(n, a);
}

bool invert_lower(size_t n, float* a) {
  const Call call;
  const blasint size = dim(n);
  blasint info = 0;
  strtri_("U", "N", &size, a, &size, &info);
  return info == 0 && finite_diagonal(n, a);
}

bool invert_lower(size_t n, double* a) {
  const Call call;
  const blasint size = dim(n);
  blasint info = 0;
  dtrtri_("U", "N", &size, a, &size, &info);
  return info == 0 && finite_diagonal(n, a);
}

}  // namespace fettle::compress::blas
