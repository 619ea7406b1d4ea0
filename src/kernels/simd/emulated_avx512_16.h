#pragma once

// Tests only: the AVX-512 vector types on SIMDe's emulation, so that the same kernel source runs on machines without
// AVX-512. Open a FETTLE_TARGET_AVX2 region after this header; only AVX2 and FMA are executed.
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/simd/target.h"

// The region below has AVX2 and FMA, which SIMDe cannot see from the command line; fused operations stay fused.
#define SIMDE_X86_AVX2_NATIVE
#define SIMDE_X86_FMA_NATIVE
FETTLE_TARGET_AVX2
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <simde/x86/avx512.h>
#pragma GCC diagnostic pop

namespace fettle::kernels::simd::emulated {

// VCVTNEPS2BF16: round to nearest even, subnormals to zero.
inline __m256i cvtneps_pbh(simde__m512 a) {
  alignas(64) float v[16];
  simde_mm512_storeu_ps(v, a);
  alignas(32) uint16_t out[16];
  for (int i = 0; i < 16; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(v[i]);
    out[i] = std::fabs(v[i]) < 1.17549435e-38f ? static_cast<uint16_t>(bits >> 16 & 0x8000)
             : v[i] != v[i]                    ? static_cast<uint16_t>(bits >> 16 | 0x40)
                                               : static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(out));
}

// VDPBF16PS, as documented: the odd elements first, then the even ones, each product added with one rounding.
inline simde__m512 dpbf16_ps(simde__m512 acc, simde__m512i a, simde__m512i b) {
  alignas(64) float sum[16];
  alignas(64) uint32_t x[16], y[16];
  simde_mm512_storeu_ps(sum, acc);
  simde_mm512_storeu_si512(x, a);
  simde_mm512_storeu_si512(y, b);
  const auto high = [](uint32_t v) { return std::bit_cast<float>(v & 0xFFFF0000u); };
  const auto low = [](uint32_t v) { return std::bit_cast<float>(v << 16); };
  for (int i = 0; i < 16; ++i) sum[i] = std::fma(low(x[i]), low(y[i]), std::fma(high(x[i]), high(y[i]), sum[i]));
  return simde_mm512_loadu_ps(sum);
}

}  // namespace fettle::kernels::simd::emulated
FETTLE_TARGET_END

#define __m512 simde__m512
#define __m512i simde__m512i
#define __m512bh simde__m512i
#define _mm512_setzero_ps simde_mm512_setzero_ps
#define _mm512_set1_ps simde_mm512_set1_ps
#define _mm512_loadu_ps simde_mm512_loadu_ps
#define _mm512_storeu_ps simde_mm512_storeu_ps
#define _mm512_add_ps simde_mm512_add_ps
#define _mm512_sub_ps simde_mm512_sub_ps
#define _mm512_mul_ps simde_mm512_mul_ps
#define _mm512_div_ps simde_mm512_div_ps
#define _mm512_fmadd_ps simde_mm512_fmadd_ps
#define _mm512_max_ps simde_mm512_max_ps
#define _mm512_min_ps simde_mm512_min_ps
#undef _mm512_permutexvar_ps
#define _mm512_permutexvar_ps simde_mm512_permutexvar_ps
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps(a, mode) simde_mm512_floor_ps(a)  // the only mode in use is "toward -inf"
#define _mm512_castsi512_ps simde_mm512_castsi512_ps
#define _mm512_castps_si512 simde_mm512_castps_si512
#define _mm512_loadu_si512 simde_mm512_loadu_si512
#define _mm512_storeu_si512 simde_mm512_storeu_si512
#define _mm512_set1_epi32 simde_mm512_set1_epi32
#undef _mm512_slli_epi32
#undef _mm512_srli_epi32
#define _mm512_slli_epi32 simde_mm512_slli_epi32
#define _mm512_srli_epi32 simde_mm512_srli_epi32
#define _mm512_add_epi32 simde_mm512_add_epi32
#define _mm512_and_si512 simde_mm512_and_si512
#define _mm512_or_si512 simde_mm512_or_si512
#undef _mm512_xor_si512
#define _mm512_xor_si512 simde_mm512_xor_si512
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask simde_mm512_cmp_ps_mask
#define _mm512_mask_blend_ps simde_mm512_mask_blend_ps
#define _mm512_maskz_mov_ps simde_mm512_maskz_mov_ps
#define _mm512_dpbf16_ps emulated::dpbf16_ps
#define _mm512_cvtneps_pbh emulated::cvtneps_pbh

#define FETTLE_AVX512_VEC EmulatedAvx512x16
#define FETTLE_AVX512_REGION FETTLE_TARGET_AVX2
#define FETTLE_AVX512_ROWS 3  // the full 6 x 4 tile of emulated registers takes minutes to compile
#define FETTLE_AVX512_COLUMNS 2
#define FETTLE_AVX512_BF16_VEC EmulatedAvx512Bf16x16
#define FETTLE_AVX512_BF16_REGION FETTLE_TARGET_AVX2
#include "kernels/simd/avx512_16.h"
#include "kernels/simd/avx512_bf16_16.h"
