#pragma once

// The AVX-512 level of scalar16.h. The emulation test compiles this file with SIMDe in place of <immintrin.h> and other
// names for the struct and the target region.
#if !defined(FETTLE_AVX512_VEC)
#include <immintrin.h>
#include "kernels/simd/target.h"
#define FETTLE_AVX512_VEC Avx512x16
#define FETTLE_AVX512_REGION FETTLE_TARGET_AVX512
// 6 x 4 sums, 4 operands and a broadcast fit 32 registers.
#define FETTLE_AVX512_ROWS 6
#define FETTLE_AVX512_COLUMNS 4
#endif

#include <cstddef>
#include <cstdint>

FETTLE_AVX512_REGION
namespace fettle::kernels::simd {

struct FETTLE_AVX512_VEC {
  static constexpr size_t kRows = FETTLE_AVX512_ROWS, kColumns = FETTLE_AVX512_COLUMNS;
  static constexpr size_t kDirectRows = kRows, kDirectSums = 2 * kRows;

  using F = __m512;
  using I = __m512i;
  using M = __mmask16;

  static FETTLE_INLINE F zero() { return _mm512_setzero_ps(); }
  static FETTLE_INLINE F set(float x) { return _mm512_set1_ps(x); }
  static FETTLE_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
  static FETTLE_INLINE void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static FETTLE_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  static FETTLE_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static FETTLE_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static FETTLE_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
  static FETTLE_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static FETTLE_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  static FETTLE_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  static FETTLE_INLINE F floor(F a) { return _mm512_roundscale_ps(a, 0x09); }  // toward -inf, no exceptions
  static FETTLE_INLINE F abs(F a) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7FFFFFFF)));
  }

  static FETTLE_INLINE I load_int(const void* p) { return _mm512_loadu_si512(p); }
  static FETTLE_INLINE void store_int(void* p, I a) { _mm512_storeu_si512(p, a); }
  static FETTLE_INLINE I set_int(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static FETTLE_INLINE I bits(F a) { return _mm512_castps_si512(a); }
  static FETTLE_INLINE F from_bits(I a) { return _mm512_castsi512_ps(a); }
  template <int N>
  static FETTLE_INLINE I shl(I a) {
    return _mm512_slli_epi32(a, N);
  }
  template <int N>
  static FETTLE_INLINE I shr(I a) {
    return _mm512_srli_epi32(a, N);
  }
  static FETTLE_INLINE I add_int(I a, I b) { return _mm512_add_epi32(a, b); }
  static FETTLE_INLINE I and_int(I a, I b) { return _mm512_and_si512(a, b); }
  static FETTLE_INLINE I or_int(I a, I b) { return _mm512_or_si512(a, b); }
  static FETTLE_INLINE I xor_int(I a, I b) { return _mm512_xor_si512(a, b); }

  static FETTLE_INLINE M less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static FETTLE_INLINE M unordered(F a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
  static FETTLE_INLINE M or_mask(M a, M b) { return static_cast<M>(a | b); }
  static FETTLE_INLINE M no_mask() { return 0; }
  static FETTLE_INLINE unsigned mask_bits(M m) { return m; }
  static FETTLE_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
  static FETTLE_INLINE F zero_where(M m, F a) { return _mm512_maskz_mov_ps(static_cast<M>(~m), a); }

  template <int N>
  static FETTLE_INLINE F swap_lanes(F a) {
    alignas(64) uint32_t from[16];
    for (uint32_t i = 0; i < 16; ++i) from[i] = i ^ N;
    return _mm512_permutexvar_ps(load_int(from), a);
  }

  static FETTLE_INLINE float reduce_add(F a) {
    float v[16];
    _mm512_storeu_ps(v, a);
    const __m256 half = _mm256_add_ps(_mm256_loadu_ps(v), _mm256_loadu_ps(v + 8));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  static FETTLE_INLINE float reduce_max(F a) {
    float v[16];
    _mm512_storeu_ps(v, a);
    const __m256 half = _mm256_max_ps(_mm256_loadu_ps(v), _mm256_loadu_ps(v + 8));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }
};

}  // namespace fettle::kernels::simd
FETTLE_TARGET_END
