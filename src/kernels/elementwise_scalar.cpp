#include "kernels/elementwise_table.h"
#include "kernels/simd/scalar16.h"

#include "kernels/elementwise_inl.h"

namespace fettle::kernels::detail {
const ElementwiseKernels kElementwiseScalar = Elementwise<simd::Scalar16>::table();
}  // namespace fettle::kernels::detail
