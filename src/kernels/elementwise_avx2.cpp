#if defined(__x86_64__)
#include "kernels/elementwise_table.h"
#include "kernels/simd/avx2_16.h"

FETTLE_TARGET_AVX2
#include "kernels/elementwise_inl.h"

namespace fettle::kernels::detail {
const ElementwiseKernels kElementwiseAvx2 = Elementwise<simd::Avx2x16>::table();
}  // namespace fettle::kernels::detail
FETTLE_TARGET_END
#endif
