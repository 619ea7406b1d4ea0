// Vectors and loaders of the AVX2 dense products, for dense_body_inl.h.

using V = __m256;
inline constexpr size_t kStep = 16;    // k per loader call: two vectors
inline constexpr int kTileRows = 3;    // 4 tokens x 3 rows: 12 sums of the 16 registers
inline constexpr int kSingleRows = 8;  // rows per pass for one token: 8 sums hide the latency of fma

inline V zero_v() { return _mm256_setzero_ps(); }
inline V load_x(const uint8_t* x, int half) { return _mm256_loadu_ps(reinterpret_cast<const float*>(x) + 8 * half); }
inline V fma_v(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline float sum_v(V v) {
  __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  h = _mm_add_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}

struct LoadF32 {
  static constexpr size_t kBytes = 4;
  static constexpr DenseForm kForm = DenseForm::kF32;
  template <int half>
  static V get(const uint8_t* w) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(w) + 8 * half);
  }
};
struct LoadF16 {
  static constexpr size_t kBytes = 2;
  static constexpr DenseForm kForm = DenseForm::kF32;
  template <int half>
  static V get(const uint8_t* w) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w) + half));
  }
};
// A bf16 is the upper half of an F32. Widening and shifting needs no mask register, so the 4 x 3 tile fits 16
// registers.
struct LoadBF16 {
  static constexpr size_t kBytes = 2;
  static constexpr DenseForm kForm = DenseForm::kF32;
  template <int half>
  static V get(const uint8_t* w) {
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w) + half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
  }
};
