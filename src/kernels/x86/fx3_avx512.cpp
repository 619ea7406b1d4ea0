#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "kernels/dense_kernels.h"
#include "kernels/fx3_kernels.h"

#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")
namespace fettle::kernels {
namespace fx3_avx512 {
namespace {
#include "kernels/x86/dense_vec_avx512.h"
#include "kernels/x86/fx3_vec_avx512.h"

#include "kernels/x86/fx3_body_inl.h"
}  // namespace
}  // namespace fx3_avx512

const Fx3Kernel& avx512_fx3_kernel() {
  static constexpr Fx3Kernel kKernel{"avx512", Isa::kAvx512, &fx3_avx512::fx3_decode, &fx3_avx512::fx3_dot};
  return kKernel;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
