#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "base/checked.h"
#include "kernels/dense_kernels.h"

#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define FETTLE_BF16_DOT 1
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
namespace fettle::kernels {
namespace avx512_bf16 {
namespace {
#include "kernels/x86/dense_vec_avx512.h"

#include "kernels/x86/dense_body_inl.h"
}  // namespace
}  // namespace avx512_bf16

const DenseKernels& avx512_bf16_dense_kernels() {
  static constexpr DenseKernels kKernels{"avx512_bf16", Isa::kAvx512Bf16, &avx512_bf16::act_form,
                                         &avx512_bf16::pack_acts, &avx512_bf16::dot};
  return kKernels;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
