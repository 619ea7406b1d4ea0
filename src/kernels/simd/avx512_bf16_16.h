#pragma once

// AVX-512 with BF16 dot products. The emulation test compiles this file too (see avx512_16.h).
#include "kernels/simd/avx512_16.h"
#if !defined(FETTLE_AVX512_BF16_VEC)
#define FETTLE_AVX512_BF16_VEC Avx512Bf16x16
#define FETTLE_AVX512_BF16_REGION FETTLE_TARGET_AVX512_BF16
#endif

FETTLE_AVX512_BF16_REGION
namespace fettle::kernels::simd {

struct FETTLE_AVX512_BF16_VEC : FETTLE_AVX512_VEC {
  // acc + a.lo * b.lo + a.hi * b.hi per lane of BF16 pairs. The hardware treats subnormal inputs and results as zero.
  static FETTLE_INLINE F dot_bf16(F acc, I a, I b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }
  // Rounds to nearest even; 16 BF16 values at p.
  static FETTLE_INLINE void store_bf16(void* p, F a) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a));
  }
};

}  // namespace fettle::kernels::simd
FETTLE_TARGET_END
