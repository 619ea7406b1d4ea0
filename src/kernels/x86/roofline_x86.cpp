#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/roofline_kernels.h"

// Eight independent sums per loop hide the latency of every instruction measured here (4 cycles, 2 per cycle) and fit
// the registers together with the operands.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace fettle::kernels {
namespace {
constexpr int kSums = 8;
}

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace {

uint64_t read_avx2(const uint8_t* p, size_t bytes) {
  __m256i sum[8];
  for (auto& s : sum) s = _mm256_setzero_si256();
  for (size_t i = 0; i < bytes; i += 256)
    for (size_t j = 0; j < 8; ++j)
      sum[j] = _mm256_or_si256(sum[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 32 * j)));
  for (size_t j = 1; j < 8; ++j) sum[0] = _mm256_or_si256(sum[0], sum[j]);
  return static_cast<uint64_t>(_mm256_extract_epi64(sum[0], 0) | _mm256_extract_epi64(sum[0], 3));
}

double f32_avx2(size_t n, float* sink) {
  __m256 sum[kSums];
  for (auto& s : sum) s = _mm256_set1_ps(*sink);
  const __m256 a = _mm256_set1_ps(0.5f);
  for (size_t i = 0; i < n; ++i)
    for (auto& s : sum) s = _mm256_fmadd_ps(s, a, a);
  for (auto& s : sum) *sink += _mm256_cvtss_f32(s);
  return static_cast<double>(n) * kSums * 8 * 2;
}

// The empty asm keeps the compiler from hoisting the loop-invariant product.
double int8_avx2(size_t n, float* sink) {
  __m256i sum[kSums];
  for (auto& s : sum) s = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(1);
  for (size_t i = 0; i < n; ++i) {
    for (auto& s : sum) {
      __asm__("" : "+x"(a), "+x"(b));
      s = _mm256_add_epi16(s, _mm256_maddubs_epi16(a, b));
    }
  }
  for (auto& s : sum) *sink += static_cast<float>(_mm256_extract_epi32(s, 0));
  return static_cast<double>(n) * kSums * 32 * 2;
}

double int16_avx2(size_t n, float* sink) {
  __m256i sum[kSums];
  for (auto& s : sum) s = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(1);
  for (size_t i = 0; i < n; ++i) {
    for (auto& s : sum) {
      __asm__("" : "+x"(a), "+x"(b));
      s = _mm256_add_epi32(s, _mm256_madd_epi16(a, b));
    }
  }
  for (auto& s : sum) *sink += static_cast<float>(_mm256_extract_epi32(s, 0));
  return static_cast<double>(n) * kSums * 16 * 2;
}

}  // namespace
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
namespace {

double f32_avx512(size_t n, float* sink) {
  __m512 sum[kSums];
  for (auto& s : sum) s = _mm512_set1_ps(*sink);
  const __m512 a = _mm512_set1_ps(0.5f);
  for (size_t i = 0; i < n; ++i)
    for (auto& s : sum) s = _mm512_fmadd_ps(s, a, a);
  for (auto& s : sum) *sink += _mm512_cvtss_f32(s);
  return static_cast<double>(n) * kSums * 16 * 2;
}

double int8_avx512(size_t n, float* sink) {
  __m512i sum[kSums];
  for (auto& s : sum) s = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1);
  for (size_t i = 0; i < n; ++i) {
    for (auto& s : sum) {
      __asm__("" : "+v"(a), "+v"(b));
      s = _mm512_add_epi16(s, _mm512_maddubs_epi16(a, b));
    }
  }
  for (auto& s : sum) *sink += static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(s)));
  return static_cast<double>(n) * kSums * 64 * 2;
}

double int16_avx512(size_t n, float* sink) {
  __m512i sum[kSums];
  for (auto& s : sum) s = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi16(3), b = _mm512_set1_epi16(1);
  for (size_t i = 0; i < n; ++i) {
    for (auto& s : sum) {
      __asm__("" : "+v"(a), "+v"(b));
      s = _mm512_add_epi32(s, _mm512_madd_epi16(a, b));
    }
  }
  for (auto& s : sum) *sink += static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(s)));
  return static_cast<double>(n) * kSums * 32 * 2;
}

}  // namespace
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
namespace {

double int8_vnni(size_t n, float* sink) {
  __m512i sum[kSums];
  for (auto& s : sum) s = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1);
  for (size_t i = 0; i < n; ++i)
    for (auto& s : sum) {
      __asm__("" : "+v"(a), "+v"(b));
      s = _mm512_dpbusd_epi32(s, a, b);
    }
  for (auto& s : sum) *sink += static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(s)));
  return static_cast<double>(n) * kSums * 64 * 2;
}

double int16_vnni(size_t n, float* sink) {
  __m512i sum[kSums];
  for (auto& s : sum) s = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi16(3), b = _mm512_set1_epi16(1);
  for (size_t i = 0; i < n; ++i)
    for (auto& s : sum) {
      __asm__("" : "+v"(a), "+v"(b));
      s = _mm512_dpwssd_epi32(s, a, b);
    }
  for (auto& s : sum) *sink += static_cast<float>(_mm_cvtsi128_si32(_mm512_castsi512_si128(s)));
  return static_cast<double>(n) * kSums * 32 * 2;
}

}  // namespace
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
namespace {

double bf16_avx512(size_t n, float* sink) {
  __m512 sum[kSums];
  for (auto& s : sum) s = _mm512_setzero_ps();
  __m512i a = _mm512_set1_epi16(0x3F80), b = _mm512_set1_epi16(0x3C00);
  for (size_t i = 0; i < n; ++i)
    for (auto& s : sum) {
      __asm__("" : "+v"(a), "+v"(b));
      s = _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b);
    }
  for (auto& s : sum) *sink += _mm512_cvtss_f32(s);
  return static_cast<double>(n) * kSums * 32 * 2;
}

}  // namespace
#pragma GCC pop_options

const PeakKernels kAvx2Peaks = {&read_avx2, &f32_avx2, &int8_avx2, &int16_avx2, nullptr};
const PeakKernels kAvx512Peaks = {&read_avx2, &f32_avx512, &int8_avx512, &int16_avx512, nullptr};
const PeakKernels kAvx512VnniPeaks = {&read_avx2, &f32_avx512, &int8_vnni, &int16_vnni, nullptr};
const PeakKernels kAvx512Bf16Peaks = {&read_avx2, &f32_avx512, &int8_vnni, &int16_vnni, &bf16_avx512};

}  // namespace fettle::kernels
#endif
