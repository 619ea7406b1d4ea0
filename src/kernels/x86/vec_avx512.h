// 64-byte vectors as one AVX-512 register, for quant_body_inl.h. Included inside a namespace, where the target
// attribute of the including file is active. The 16 lanes of 32 bits are 16 weight rows. FETTLE_VNNI selects the VNNI
// sums.

using I = __m512i;
using F = __m512;

inline I load(const void* p) { return _mm512_loadu_si512(p); }
inline void store(void* p, I x) { _mm512_storeu_si512(p, x); }
inline I set1_8(int x) { return _mm512_set1_epi8(static_cast<char>(x)); }
inline I set1_16(int x) { return _mm512_set1_epi16(static_cast<short>(x)); }
inline I set1_32(int x) { return _mm512_set1_epi32(x); }
inline I zero_i() { return _mm512_setzero_si512(); }
inline I broadcast4(const void* p) {
  int v;
  __builtin_memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}
inline I broadcast16(const void* p) { return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
inline I and_i(I x, I y) { return _mm512_and_si512(x, y); }
inline I or_i(I x, I y) { return _mm512_or_si512(x, y); }
template <int n>
inline I srl16(I x) {
  return _mm512_srli_epi16(x, n);
}
template <int n>
inline I sll16(I x) {
  return _mm512_slli_epi16(x, n);
}
template <int n>
inline I sll32(I x) {
  return _mm512_slli_epi32(x, n);
}
inline I shuffle8(I table, I index) { return _mm512_shuffle_epi8(table, index); }
inline I add16(I x, I y) { return _mm512_add_epi16(x, y); }
inline I add32(I x, I y) { return _mm512_add_epi32(x, y); }
inline I sub32(I x, I y) { return _mm512_sub_epi32(x, y); }
inline I mul32(I x, I y) { return _mm512_mullo_epi32(x, y); }
inline I madd16(I x, I y) { return _mm512_madd_epi16(x, y); }

inline F loadf(const float* p) { return _mm512_loadu_ps(p); }
inline void storef(float* p, F x) { _mm512_storeu_ps(p, x); }
inline F set1f(float x) { return _mm512_set1_ps(x); }
inline F mulf(F x, F y) { return _mm512_mul_ps(x, y); }
inline F addf(F x, F y) { return _mm512_add_ps(x, y); }
inline F fmaf16(F x, F y, F z) { return _mm512_fmadd_ps(x, y, z); }
inline F to_float(I x) { return _mm512_cvtepi32_ps(x); }
inline F from_half(__m256i h) { return _mm512_cvtph_ps(h); }

// Keeps running sums in registers and in order, as in vec_avx2.h.
inline I pin(I x) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(x));
#endif
  return x;
}

#if defined(FETTLE_VNNI)
// acc (s32) += u8 x s8 over 4 k; never saturates.
struct ByteSum {
  static constexpr bool kNarrow = false;
  I sum;
  void mac(I codes, I acts) { sum = _mm512_dpbusd_epi32(sum, codes, acts); }
  I times(int factor) const { return factor == 256 ? _mm512_slli_epi32(sum, 8) : sum; }
};
inline I dot_words(I acc, I words, I acts) { return _mm512_dpwssd_epi32(acc, words, acts); }
#else
struct ByteSum {
  static constexpr bool kNarrow = true;  // 16-bit sums: only codes up to 31
  I sum;
  void mac(I codes, I acts) { sum = pin(add16(sum, _mm512_maddubs_epi16(codes, acts))); }
  I times(int factor) const { return madd16(sum, set1_16(factor)); }
};
inline I dot_words(I acc, I words, I acts) { return pin(add32(acc, madd16(words, acts))); }
#endif
// 32 registers: 16 sums leave room for codes, tables and addresses.
inline constexpr int kMaxTokensBytes = 8, kMaxTokensSplit = 8, kMaxTokensWords = 8, kMaxTokensFp8 = 8;
inline F pin_f(F x) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(x));
#endif
  return x;
}
