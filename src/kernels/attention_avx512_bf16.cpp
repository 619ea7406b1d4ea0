#if defined(__x86_64__)
#include <utility>

#include "kernels/attention_tile.h"
#include "kernels/simd/avx512_bf16_16.h"

FETTLE_TARGET_AVX512_BF16
#include "kernels/attention_inl.h"

namespace fettle::kernels::detail {

using V = simd::Avx512Bf16x16;
const TileKernel kAttentionAvx512Bf16Dot = &attend_tile<V, PageBf16Dot<V>>;

}  // namespace fettle::kernels::detail
FETTLE_TARGET_END
#endif
