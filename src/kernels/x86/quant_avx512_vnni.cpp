#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/act_block.h"
#include "kernels/quant_kernels.h"

// GCC bug 105593: false warnings inside the AVX-512 intrinsics.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define FETTLE_VNNI 1
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
namespace fettle::kernels {
namespace avx512_vnni {
namespace {
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/quant_body_inl.h"
}  // namespace
}  // namespace avx512_vnni

const QuantKernels& avx512_vnni_quant_kernels() {
  static constexpr QuantKernels kKernels{"avx512_vnni",
                                         Isa::kAvx512Vnni,
                                         8,
                                         &avx512_vnni::act_form,
                                         &avx512_vnni::pack_acts,
                                         &avx512_vnni::widen,
                                         &avx512_vnni::scale_groups,
                                         &avx512_vnni::unpack,
                                         &avx512_vnni::dot,
                                         &avx512_vnni::unpack_fp8,
                                         &avx512_vnni::fp8};
  return kKernels;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
