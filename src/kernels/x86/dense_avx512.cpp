#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "base/checked.h"
#include "kernels/dense_kernels.h"

#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
namespace fettle::kernels {
namespace avx512 {
namespace {
#include "kernels/x86/dense_vec_avx512.h"

#include "kernels/x86/dense_body_inl.h"
}  // namespace
}  // namespace avx512

const DenseKernels& avx512_dense_kernels() {
  static constexpr DenseKernels kKernels{"avx512", Isa::kAvx512, &avx512::act_form, &avx512::pack_acts, &avx512::dot};
  return kKernels;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
