// 64-byte vectors as pairs of AVX2 registers, for quant_body_inl.h. Included inside a namespace, where the target
// attribute of the including file is active. The 16 lanes of 32 bits are 16 weight rows.

struct I {
  __m256i a, b;
};
struct F {
  __m256 a, b;
};

inline I load(const void* p) {
  const auto* v = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
inline void store(void* p, I x) {
  auto* v = static_cast<__m256i*>(p);
  _mm256_storeu_si256(v, x.a);
  _mm256_storeu_si256(v + 1, x.b);
}
inline I set1_8(int x) { return {_mm256_set1_epi8(static_cast<char>(x)), _mm256_set1_epi8(static_cast<char>(x))}; }
inline I set1_16(int x) { return {_mm256_set1_epi16(static_cast<short>(x)), _mm256_set1_epi16(static_cast<short>(x))}; }
inline I set1_32(int x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I zero_i() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
// 4 bytes into every lane.
inline I broadcast4(const void* p) {
  int v;
  __builtin_memcpy(&v, p, 4);
  return set1_32(v);
}
inline I broadcast16(const void* p) {
  const __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  return {v, v};
}
inline I and_i(I x, I y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
inline I or_i(I x, I y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
template <int n>
inline I srl16(I x) {
  return {_mm256_srli_epi16(x.a, n), _mm256_srli_epi16(x.b, n)};
}
template <int n>
inline I sll16(I x) {
  return {_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)};
}
template <int n>
inline I sll32(I x) {
  return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)};
}
inline I shuffle8(I table, I index) {
  return {_mm256_shuffle_epi8(table.a, index.a), _mm256_shuffle_epi8(table.b, index.b)};
}
inline I add16(I x, I y) { return {_mm256_add_epi16(x.a, y.a), _mm256_add_epi16(x.b, y.b)}; }
inline I add32(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline I sub32(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
inline I mul32(I x, I y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
inline I madd16(I x, I y) { return {_mm256_madd_epi16(x.a, y.a), _mm256_madd_epi16(x.b, y.b)}; }
// u8 x s8, pairs summed into s16 with saturation.
inline I maddubs(I u, I s) { return {_mm256_maddubs_epi16(u.a, s.a), _mm256_maddubs_epi16(u.b, s.b)}; }

inline F loadf(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void storef(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline F set1f(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F mulf(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F addf(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F fmaf16(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
// 16 words holding IEEE half bits.
inline F from_half(__m256i h) {
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
}

// Keeps the running sums in registers and in order: without it g++ 12 computes all products of a step first and spills
// them (two times slower).
inline I pin(I x) {
  __asm__("" : "+x"(x.a), "+x"(x.b));
  return x;
}

// acc (s32) += u8 x s8 over 4 k, sums of a few steps kept in s16.
struct ByteSum {
  static constexpr bool kNarrow = true;  // 16-bit sums: only codes up to 31
  I sum;
  void mac(I codes, I acts) { sum = pin(add16(sum, maddubs(codes, acts))); }
  I times(int factor) const { return madd16(sum, set1_16(factor)); }
};
inline I dot_words(I acc, I words, I acts) { return pin(add32(acc, madd16(words, acts))); }
inline constexpr int kMaxTokensBytes = 4, kMaxTokensSplit = 2, kMaxTokensWords = 4, kMaxTokensFp8 = 3;
inline F pin_f(F x) {
  __asm__("" : "+x"(x.a), "+x"(x.b));
  return x;
}
