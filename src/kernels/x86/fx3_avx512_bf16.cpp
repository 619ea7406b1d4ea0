#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "kernels/dense_kernels.h"
#include "kernels/fx3_kernels.h"

#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define FETTLE_BF16_DOT 1
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")
namespace fettle::kernels {
namespace fx3_avx512_bf16 {
namespace {
#include "kernels/x86/dense_vec_avx512.h"
#include "kernels/x86/fx3_vec_avx512.h"

#include "kernels/x86/fx3_body_inl.h"
}  // namespace
}  // namespace fx3_avx512_bf16

const Fx3Kernel& avx512_bf16_fx3_kernel() {
  static constexpr Fx3Kernel kKernel{"avx512_bf16", Isa::kAvx512Bf16, &fx3_avx512_bf16::fx3_decode,
                                     &fx3_avx512_bf16::fx3_dot};
  return kKernel;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
