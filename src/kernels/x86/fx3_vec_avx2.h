// FX3 tiles as AVX2 vectors, for fx3_body_inl.h.

constexpr size_t kFx3XBytes = formats::kFx3Tile * sizeof(float);  // activations of a tile

struct Fx3Table {
  __m256i highs;
  explicit Fx3Table(const uint8_t* table)
      : highs(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)))) {}
};

// 64 weights: vector i holds pairs of weights 16i + l, 16i + 8 + l.
struct Fx3Words {
  __m256i pairs[4];

  Fx3Words(const Fx3Table& table, const uint8_t* tile) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i indices = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile));
    const __m256i high0 = _mm256_shuffle_epi8(table.highs, _mm256_and_si256(indices, nibble));
    const __m256i high1 = _mm256_shuffle_epi8(table.highs, _mm256_and_si256(_mm256_srli_epi16(indices, 4), nibble));
    const __m256i low0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + 32));
    const __m256i low1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + 64));
    pairs[0] = _mm256_unpacklo_epi8(low0, high0);
    pairs[1] = _mm256_unpackhi_epi8(low0, high0);
    pairs[2] = _mm256_unpacklo_epi8(low1, high1);
    pairs[3] = _mm256_unpackhi_epi8(low1, high1);
  }

  V fma(const uint8_t* x, V sum) const {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
    const auto* at = reinterpret_cast<const float*>(x);
    for (int i = 0; i < 4; ++i, at += 16) {
      sum = fma_v(_mm256_castsi256_ps(_mm256_slli_epi32(pairs[i], 16)), _mm256_loadu_ps(at), sum);
      sum = fma_v(_mm256_castsi256_ps(_mm256_and_si256(pairs[i], upper)), _mm256_loadu_ps(at + 8), sum);
    }
    return sum;
  }

  void store(uint16_t* out) const {
    const __m256i split =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
    for (int i = 0; i < 4; ++i) {
      const __m256i lanes = _mm256_shuffle_epi8(pairs[i], split);  // weights 0-3 8-11 | 4-7 12-15
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + i, _mm256_permute4x64_epi64(lanes, 0xD8));
    }
  }
};

inline V fx3_fma_plain(const uint16_t* words, const uint8_t* x, V sum) {
  const auto* w = reinterpret_cast<const uint8_t*>(words);
  for (size_t k = 0; k < formats::kFx3Tile; k += kStep, w += 2 * kStep, x += sizeof(float) * kStep) {
    sum = fma_v(LoadBF16::get<0>(w), load_x(x, 0), sum);
    sum = fma_v(LoadBF16::get<1>(w), load_x(x, 1), sum);
  }
  return sum;
}
