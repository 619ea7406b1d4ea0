#include "kernels/emulated_levels.h"

#include <utility>

#include "kernels/simd/emulated_avx512_16.h"

FETTLE_TARGET_AVX2
#include "kernels/attention_inl.h"
#include "kernels/elementwise_inl.h"

namespace fettle::kernels::test {

using V = simd::EmulatedAvx512x16;
using Dot = simd::EmulatedAvx512Bf16x16;
using namespace detail;

const AttentionKernels kEmulatedAttention = {&fold_tile<V>, &attend_tile<V, PageF32<V>>, &attend_tile<V, PageBf16<V>>,
                                             &attend_tile<V, PageI8<V>>, nullptr};
const AttentionKernels kEmulatedAttentionBf16 = {&fold_tile<V>, &attend_tile<V, PageF32<V>>,
                                                 &attend_tile<V, PageBf16<V>>, &attend_tile<V, PageI8<V>>,
                                                 &attend_tile<Dot, PageBf16Dot<Dot>>};
const ElementwiseKernels kEmulatedElementwise = Elementwise<V>::table();

}  // namespace fettle::kernels::test
FETTLE_TARGET_END
