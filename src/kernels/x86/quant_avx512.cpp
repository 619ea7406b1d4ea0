#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/act_block.h"
#include "kernels/quant_kernels.h"

// GCC bug 105593: false warnings inside the AVX-512 intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
namespace fettle::kernels {
namespace avx512 {
namespace {
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/quant_body_inl.h"
}  // namespace
}  // namespace avx512

const QuantKernels& avx512_quant_kernels() {
  static constexpr QuantKernels kKernels{"avx512",
                                         Isa::kAvx512,
                                         8,
                                         &avx512::act_form,
                                         &avx512::pack_acts,
                                         &avx512::widen,
                                         &avx512::scale_groups,
                                         &avx512::unpack,
                                         &avx512::dot,
                                         &avx512::unpack_fp8,
                                         &avx512::fp8};
  return kKernels;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
