// FX3 tiles as AVX-512 VBMI vectors, for fx3_body_inl.h. With FETTLE_BF16_DOT for the level of vdpbf16ps.

#if defined(FETTLE_BF16_DOT)
constexpr size_t kFx3XBytes = formats::kFx3Tile * sizeof(uint16_t);  // activations of a tile
#else
constexpr size_t kFx3XBytes = formats::kFx3Tile * sizeof(float);
#endif

// Place of the low byte of weight k; its index is in the low nibble of byte p, or in the high one of byte p - 32.
constexpr uint8_t fx3_place_of(size_t k) {
  for (size_t j = 0; j < formats::kFx3Tile; ++j)
    if (formats::fx3_weight_of(j) == k) return static_cast<uint8_t>(j);
  return 0;
}

// Byte 16q + i shows weight 8q + i, byte 16q + 8 + i weight 32 + 8q + i: unpacking lanes gives weights in order.
struct Fx3Order {
  alignas(64) uint8_t bytes[64];
};
constexpr Fx3Order kFx3Order = [] {
  Fx3Order order{};
  for (size_t b = 0; b < 64; ++b) order.bytes[b] = fx3_place_of(b / 16 * 8 + b % 8 + b % 16 / 8 * 32);
  return order;
}();

struct Fx3Table {
  __m512i highs, order;
  explicit Fx3Table(const uint8_t* table)
      : highs(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)))),
        order(_mm512_load_si512(kFx3Order.bytes)) {}
};

// 64 weights in order.
struct Fx3Words {
  __m512i words[2];

  Fx3Words(const Fx3Table& table, const uint8_t* tile) {
    const __m512i both = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile)));
    __m512i index = _mm512_permutexvar_epi8(table.order, both);
    const __m512i from_32_on = _mm512_broadcast_i32x4(_mm_setr_epi16(0, 0, 0, 0, 4, 4, 4, 4));
    index = _mm512_srlv_epi16(index, from_32_on);  // their indices are in the high nibbles
    const __m512i high = _mm512_shuffle_epi8(table.highs, _mm512_and_si512(index, _mm512_set1_epi8(15)));
    const __m512i low = _mm512_permutexvar_epi8(table.order, _mm512_loadu_si512(tile + formats::kFx3IndexBytes));
    words[0] = _mm512_unpacklo_epi8(low, high);
    words[1] = _mm512_unpackhi_epi8(low, high);
  }

  void store(uint16_t* out) const {
    _mm512_storeu_si512(out, words[0]);
    _mm512_storeu_si512(out + 32, words[1]);
  }

  // The additions of the dense kernel: even k before odd k in every 32, or pairs.
  static V fma_words(const __m512i (&w)[2], const uint8_t* x, V sum) {
    for (int i = 0; i < 2; ++i, x += kFx3XBytes / 2) {
#if defined(FETTLE_BF16_DOT)
      sum = _mm512_dpbf16_ps(sum, (__m512bh)w[i], (__m512bh)_mm512_loadu_si512(x));
#else
      const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
      sum = fma_v(_mm512_castsi512_ps(_mm512_slli_epi32(w[i], 16)), load_x(x, 0), sum);
      sum = fma_v(_mm512_castsi512_ps(_mm512_and_si512(w[i], upper)), load_x(x, 1), sum);
#endif
    }
    return sum;
  }
  V fma(const uint8_t* x, V sum) const { return fma_words(words, x, sum); }
};

inline V fx3_fma_plain(const uint16_t* words, const uint8_t* x, V sum) {
  const __m512i w[2] = {_mm512_loadu_si512(words), _mm512_loadu_si512(words + 32)};
  return Fx3Words::fma_words(w, x, sum);
}
