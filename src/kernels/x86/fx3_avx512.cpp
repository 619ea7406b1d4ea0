#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "kernels/fx3_kernels.h"
#include "tensor/formats/fx3.h"

#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2")
namespace fettle::kernels {
namespace {
#include "kernels/x86/fx3_body_avx512.h"
}  // namespace

const Fx3Kernel& avx512_fx3_kernel() {
  static constexpr Fx3Kernel kKernel{"avx512_vbmi2", Isa::kAvx512, &fx3_decode};
  return kKernel;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
