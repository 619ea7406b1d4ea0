#include <utility>

#include "kernels/attention_tile.h"
#include "kernels/simd/scalar16.h"

#include "kernels/attention_inl.h"

namespace fettle::kernels::detail {

using V = simd::Scalar16;
const AttentionKernels kAttentionScalar = {&fold_tile<V>, &attend_tile<V, PageF32<V>>, &attend_tile<V, PageBf16<V>>,
                                           &attend_tile<V, PageI8<V>>, nullptr};

}  // namespace fettle::kernels::detail
