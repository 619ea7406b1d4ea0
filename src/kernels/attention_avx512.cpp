#if defined(__x86_64__)
#include <utility>

#include "kernels/attention_tile.h"
#include "kernels/simd/avx512_16.h"

FETTLE_TARGET_AVX512
#include "kernels/attention_inl.h"

namespace fettle::kernels::detail {

using V = simd::Avx512x16;
const AttentionKernels kAttentionAvx512 = {&fold_tile<V>, &attend_tile<V, PageF32<V>>, &attend_tile<V, PageBf16<V>>,
                                           &attend_tile<V, PageI8<V>>, nullptr};

}  // namespace fettle::kernels::detail
FETTLE_TARGET_END
#endif
