#pragma once

// SIMDe's portable stand-ins under the names of the AVX-512 intrinsics, plus the few that SIMDe 0.7.4 lacks or gets
// wrong. For tests only; not together with <immintrin.h>.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#pragma GCC diagnostic pop

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor/formats/codecs.h"

// Vectors are passed in memory where the target has no such registers; nothing else sees these functions.
#pragma GCC diagnostic ignored "-Wpsabi"

#undef _mm512_madd_epi16  // defined with the arguments of the masked form
#undef _mm512_fmadd_ps    // rounds the product

namespace fettle::kernels::emulated {

template <typename To, typename From>
To bit_copy(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
template <typename T, int n>
struct Lanes {
  T v[n];
};

}  // namespace fettle::kernels::emulated

inline __m512i _mm512_madd_epi16(__m512i a, __m512i b) {
  using namespace fettle::kernels::emulated;
  const auto x = bit_copy<Lanes<int16_t, 32>>(a), y = bit_copy<Lanes<int16_t, 32>>(b);
  Lanes<int32_t, 16> out;
  for (int i = 0; i < 16; ++i) out.v[i] = x.v[2 * i] * y.v[2 * i] + x.v[2 * i + 1] * y.v[2 * i + 1];
  return bit_copy<__m512i>(out);
}

inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  using namespace fettle::kernels::emulated;
  const auto x = bit_copy<Lanes<float, 16>>(a), y = bit_copy<Lanes<float, 16>>(b), z = bit_copy<Lanes<float, 16>>(c);
  Lanes<float, 16> out;
  for (int i = 0; i < 16; ++i) out.v[i] = std::fma(x.v[i], y.v[i], z.v[i]);
  return bit_copy<__m512>(out);
}

inline __m512 _mm512_cvtepi32_ps(__m512i a) {
  using namespace fettle::kernels::emulated;
  const auto x = bit_copy<Lanes<int32_t, 16>>(a);
  Lanes<float, 16> out;
  for (int i = 0; i < 16; ++i) out.v[i] = static_cast<float>(x.v[i]);
  return bit_copy<__m512>(out);
}

inline __m512 _mm512_cvtph_ps(__m256i a) {
  using namespace fettle::kernels::emulated;
  const auto x = bit_copy<Lanes<uint16_t, 16>>(a);
  Lanes<float, 16> out;
  for (int i = 0; i < 16; ++i) out.v[i] = fettle::formats::f16_to_f32(x.v[i]);
  return bit_copy<__m512>(out);
}

inline __m256 _mm512_extractf32x8_ps(__m512 a, int half) {
  __m256 out;
  std::memcpy(&out, reinterpret_cast<const unsigned char*>(&a) + 32 * half, sizeof out);
  return out;
}

inline __m256i _mm512_cvtneps_pbh(__m512 a) {
  using namespace fettle::kernels::emulated;
  const auto x = bit_copy<Lanes<float, 16>>(a);
  Lanes<uint16_t, 16> out;
  for (int i = 0; i < 16; ++i) out.v[i] = fettle::formats::f32_to_bf16(x.v[i]);
  return bit_copy<__m256i>(out);
}
