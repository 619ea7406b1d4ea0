#if defined(__x86_64__)
#include "kernels/elementwise_table.h"
#include "kernels/simd/avx512_16.h"

FETTLE_TARGET_AVX512
#include "kernels/elementwise_inl.h"

namespace fettle::kernels::detail {
const ElementwiseKernels kElementwiseAvx512 = Elementwise<simd::Avx512x16>::table();
}  // namespace fettle::kernels::detail
FETTLE_TARGET_END
#endif
