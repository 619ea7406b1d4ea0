#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "base/checked.h"
#include "kernels/dense_kernels.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace fettle::kernels {
namespace avx2 {
namespace {

#include "kernels/x86/dense_vec_avx2.h"

#include "kernels/x86/dense_body_inl.h"

}  // namespace
}  // namespace avx2

const DenseKernels& avx2_dense_kernels() {
  static constexpr DenseKernels kKernels{"avx2", Isa::kAvx2, &avx2::act_form, &avx2::pack_acts, &avx2::dot};
  return kKernels;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
