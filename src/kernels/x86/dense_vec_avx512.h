// Vectors and loaders of the AVX-512 dense products, for dense_body_inl.h. FETTLE_BF16_DOT: bf16 weights meet bf16
// activations in vdpbf16ps, which treats subnormal bf16 as zero (fine for activations, and for weights below 2^-126).

using V = __m512;
inline constexpr size_t kStep = 32;  // k per loader call
inline constexpr int kTileRows = 6;  // 4 tokens x 6 rows: 24 sums of the 32 registers
inline constexpr int kSingleRows = 8;

inline V zero_v() { return _mm512_setzero_ps(); }
inline V load_x(const uint8_t* x, int half) { return _mm512_loadu_ps(reinterpret_cast<const float*>(x) + 16 * half); }
inline V fma_v(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline float sum_v(V v) {
  const __m256 q = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 h = _mm_add_ps(_mm256_castps256_ps128(q), _mm256_extractf128_ps(q, 1));
  h = _mm_add_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}

struct LoadF32 {
  static constexpr size_t kBytes = 4;
  static constexpr DenseForm kForm = DenseForm::kF32;
  template <int half>
  static V get(const uint8_t* w) {
    return _mm512_loadu_ps(reinterpret_cast<const float*>(w) + 16 * half);
  }
};
struct LoadF16 {
  static constexpr size_t kBytes = 2;
  static constexpr DenseForm kForm = DenseForm::kF32;
  template <int half>
  static V get(const uint8_t* w) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w) + half));
  }
};
#if defined(FETTLE_BF16_DOT)
struct LoadBF16 {
  static constexpr size_t kBytes = 2;
  static constexpr DenseForm kForm = DenseForm::kBF16;
};
#else
// A bf16 is the upper half of an F32: even k by a shift, odd k by a mask.
struct LoadBF16 {
  static constexpr size_t kBytes = 2;
  static constexpr DenseForm kForm = DenseForm::kF32Split32;
  template <int half>
  static V get(const uint8_t* w) {
    const __m512i pairs = _mm512_loadu_si512(w);
    if constexpr (half == 0) return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
};
#endif
