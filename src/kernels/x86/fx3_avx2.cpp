#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "kernels/dense_kernels.h"
#include "kernels/fx3_kernels.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace fettle::kernels {
namespace fx3_avx2 {
namespace {
#include "kernels/x86/dense_vec_avx2.h"
#include "kernels/x86/fx3_vec_avx2.h"

#include "kernels/x86/fx3_body_inl.h"
}  // namespace
}  // namespace fx3_avx2

const Fx3Kernel& avx2_fx3_kernel() {
  static constexpr Fx3Kernel kKernel{"avx2", Isa::kAvx2, &fx3_avx2::fx3_decode, &fx3_avx2::fx3_dot};
  return kKernel;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
