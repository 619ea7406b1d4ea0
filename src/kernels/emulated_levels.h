#pragma once

#include "kernels/attention_tile.h"
#include "kernels/elementwise_table.h"

// Tests only: the AVX-512 kernels compiled on emulation (emulated_levels.cpp). Needs a machine with AVX2.
namespace fettle::kernels::test {

extern const detail::AttentionKernels kEmulatedAttention;      // AVX-512, without BF16 dot products
extern const detail::AttentionKernels kEmulatedAttentionBf16;  // with them
extern const detail::ElementwiseKernels kEmulatedElementwise;

}  // namespace fettle::kernels::test
