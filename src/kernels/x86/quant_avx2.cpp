#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/act_block.h"
#include "kernels/quant_kernels.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace fettle::kernels {
namespace avx2 {
namespace {
#include "kernels/x86/vec_avx2.h"

#include "kernels/x86/quant_body_inl.h"
}  // namespace
}  // namespace avx2

const QuantKernels& avx2_quant_kernels() {
  // From 5 tokens on, unpacking once into L1 is cheaper than unpacking per pair of tokens.
  static constexpr QuantKernels kKernels{"avx2",
                                         Isa::kAvx2,
                                         4,
                                         &avx2::act_form,
                                         &avx2::pack_acts,
                                         &avx2::widen,
                                         &avx2::scale_groups,
                                         &avx2::unpack,
                                         &avx2::dot,
                                         &avx2::unpack_fp8,
                                         &avx2::fp8};
  return kKernels;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
