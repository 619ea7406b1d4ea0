#if defined(__x86_64__)
#include <immintrin.h>

#include <array>
#include <cstring>

#include "kernels/fx3_kernels.h"
#include "tensor/formats/fx3.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,popcnt")
namespace fettle::kernels {
namespace {

// Byte offset in the output of weight j, and of the word behind the tile for j = 64 = "no more escapes".
constexpr std::array<uint8_t, 65> kOffsets = [] {
  std::array<uint8_t, 65> out{};
  for (size_t j = 0; j < 64; ++j) out[j] = static_cast<uint8_t>(2 * formats::fx3_weight_of(j));
  out[64] = 128;
  return out;
}();

constexpr size_t kPatches = 3;  // escapes per tile handled without a branch; gaussian weights have 1.5 on average

inline uint64_t load64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Replaces an escaped weight by its whole word: a store that reads nothing back, so that it never waits for the vector
// stores before it. j = 64: writes behind the tile, where the next one follows.
inline void patch(uint8_t* out, const uint8_t* sm, uint64_t j, uint32_t exponent) {
  const uint32_t s = sm[j & 63];
  const auto word = static_cast<uint16_t>((s & 0x80) << 8 | exponent << 7 | (s & 0x7F));
  std::memcpy(out + kOffsets[j], &word, sizeof word);
}

// Codes 0 to 6 as the exponent's upper seven bits and as its lowest bit at bit 7; escapes give zeros.
struct Tables {
  __m256i high, low;
  explicit Tables(int base) {
    alignas(16) uint8_t h[16] = {}, l[16] = {};
    for (int c = 0; c < 7; ++c) {
      h[c] = static_cast<uint8_t>((base + c) >> 1);
      l[c] = static_cast<uint8_t>((base + c) << 7);
    }
    high = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(h)));
    low = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(l)));
  }
};

// Bytes 8i .. 8i + 7 of a lane show byte first + i of the plane words.
inline __m256i spread(int first) {
  const auto both = [](int a) { return static_cast<int64_t>(0x0101010101010101ull * static_cast<uint64_t>(a)); };
  return _mm256_setr_epi64x(both(first), both(first + 1), both(first + 2), both(first + 3));
}

// Half a tile: 32 codes from bytes `first` on of the planes.
template <int half>
inline void decode_half(__m256i planes01, __m256i plane2, const uint8_t* sm, const Tables& tables, uint8_t* out) {
  const __m256i bits = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ull)), one = _mm256_set1_epi8(1);
  const auto expand = [&](__m256i planes, int first) {
    return _mm256_min_epu8(_mm256_and_si256(_mm256_shuffle_epi8(planes, spread(first)), bits), one);
  };
  const __m256i b0 = expand(planes01, 4 * half), b1 = expand(planes01, 8 + 4 * half), b2 = expand(plane2, 4 * half);
  __m256i code = _mm256_add_epi8(_mm256_add_epi8(b2, b2), b1);
  code = _mm256_add_epi8(_mm256_add_epi8(code, code), b0);
  const __m256i s = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sm + 32 * half));
  const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
  const __m256i high = _mm256_or_si256(_mm256_shuffle_epi8(tables.high, code), _mm256_and_si256(s, sign));
  const __m256i low = _mm256_or_si256(_mm256_shuffle_epi8(tables.low, code), _mm256_andnot_si256(sign, s));
  auto* to = reinterpret_cast<__m256i*>(out + 32 * half);
  _mm256_storeu_si256(to, _mm256_unpacklo_epi8(low, high));
  _mm256_storeu_si256(to + 2, _mm256_unpackhi_epi8(low, high));
}

const uint8_t* decode(const uint8_t* tile, size_t count, uint8_t base, const uint8_t* escapes, uint16_t* words) {
  const Tables tables(base);
  auto* out = reinterpret_cast<uint8_t*>(words);
  for (size_t i = 0; i < count; ++i, tile += formats::kFx3TileBytes, out += 2 * formats::kFx3Tile) {
    const __m256i planes01 = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tile)));
    const __m256i plane2 = _mm256_set1_epi64x(static_cast<int64_t>(load64(tile + 16)));
    decode_half<0>(planes01, plane2, tile + 24, tables, out);
    decode_half<1>(planes01, plane2, tile + 24, tables, out);
    uint64_t escaped = load64(tile) & load64(tile + 8) & load64(tile + 16);
    const auto n = static_cast<size_t>(_mm_popcnt_u64(escaped));
    for (size_t p = 0; p < kPatches; ++p) {
      patch(out, tile + 24, _tzcnt_u64(escaped), escapes[p]);
      escaped &= escaped - 1;
    }
    for (size_t p = kPatches; p < n; ++p) {
      patch(out, tile + 24, _tzcnt_u64(escaped), escapes[p]);
      escaped &= escaped - 1;
    }
    escapes += n;
  }
  return escapes;
}

// ---- Fused product. Exponent bytes of a half tile lie in dwords 0 4 2 6 | 1 5 3 7 of their natural order: after one
// unpack of bytes and one of words the F32 lanes hold eight consecutive weights, as the dense kernel has them.

constexpr size_t kPanelTiles = 16;
constexpr size_t kPanelStride = kPanelTiles * formats::kFx3Tile + 64;  // bytes; escapes may touch the byte behind a row

// Where bit j of the planes goes; j = 64 = "no more escapes".
constexpr std::array<uint8_t, 65> kPlaces = [] {
  std::array<uint8_t, 65> out{};
  constexpr size_t kDwords[8] = {0, 4, 2, 6, 1, 5, 3, 7};  // in the order of memory
  for (size_t half = 0; half < 2; ++half)
    for (size_t d = 0; d < 8; ++d)
      for (size_t b = 0; b < 4; ++b) out[32 * half + 4 * kDwords[d] + b] = static_cast<uint8_t>(32 * half + 4 * d + b);
  out[64] = 64;
  return out;
}();

// Bytes first + {0, 2, 1, 3} of the planes, four times each, in both lanes.
inline __m256i spread_dwords(int first) {
  const auto four = [](int a) { return static_cast<int>(0x01010101u * static_cast<unsigned>(a)); };
  return _mm256_broadcastsi128_si256(_mm_setr_epi32(four(first), four(first + 2), four(first + 1), four(first + 3)));
}

template <int half>
inline void exponents_half(__m256i planes01, __m256i plane2, __m256i base, uint8_t* out) {
  const __m256i bits =
      _mm256_setr_epi32(0x08040201, 0x08040201, 0x08040201, 0x08040201, static_cast<int>(0x80402010),
                        static_cast<int>(0x80402010), static_cast<int>(0x80402010), static_cast<int>(0x80402010));
  const __m256i one = _mm256_set1_epi8(1);
  const auto expand = [&](__m256i planes, int first) {
    return _mm256_min_epu8(_mm256_and_si256(_mm256_shuffle_epi8(planes, spread_dwords(first)), bits), one);
  };
  const __m256i b0 = expand(planes01, 4 * half), b1 = expand(planes01, 8 + 4 * half), b2 = expand(plane2, 4 * half);
  __m256i code = _mm256_add_epi8(_mm256_add_epi8(b2, b2), b1);
  code = _mm256_add_epi8(_mm256_add_epi8(code, code), b0);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * half), _mm256_add_epi8(base, code));
}

// Exponents of a row's panel, one byte each.
const uint8_t* exponents(const uint8_t* tile, size_t count, uint8_t base, const uint8_t* escapes, uint8_t* out) {
  const __m256i first = _mm256_set1_epi8(static_cast<char>(base));
  for (size_t i = 0; i < count; ++i, tile += formats::kFx3TileBytes, out += formats::kFx3Tile) {
    const __m256i planes01 = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tile)));
    const uint64_t p2 = load64(tile + 16);
    const __m256i plane2 = _mm256_set1_epi64x(static_cast<int64_t>(p2));
    exponents_half<0>(planes01, plane2, first, out);
    exponents_half<1>(planes01, plane2, first, out);
    uint64_t escaped = load64(tile) & load64(tile + 8) & p2;
    const auto n = static_cast<size_t>(_mm_popcnt_u64(escaped));
    for (size_t p = 0; p < kPatches; ++p) {
      out[kPlaces[_tzcnt_u64(escaped)]] = escapes[p];
      escaped = _blsr_u64(escaped);
    }
    for (size_t p = kPatches; p < n; ++p) {
      out[kPlaces[_tzcnt_u64(escaped)]] = escapes[p];
      escaped = _blsr_u64(escaped);
    }
    escapes += n;
  }
  return escapes;
}

// Sixteen weights of consecutive k from words in the order described above.
inline __m256 fma16(__m256i words, const float* x, __m256 sum) {
  const __m256i zero = _mm256_setzero_si256();
  sum = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, words)), _mm256_loadu_ps(x), sum);
  return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, words)), _mm256_loadu_ps(x + 8), sum);
}

struct HalfWords {
  __m256i low, high;  // weights 0..15 and 32..47 of the half's place in the tile
};
inline HalfWords words_of(const uint8_t* exponents, const uint8_t* sm) {
  const __m256i order = _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7);
  const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
  const __m256i e = _mm256_load_si256(reinterpret_cast<const __m256i*>(exponents));
  const __m256i s = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(sm)), order);
  const __m256i high = _mm256_or_si256(_mm256_and_si256(sign, s), _mm256_andnot_si256(sign, _mm256_srli_epi16(e, 1)));
  const __m256i low = _mm256_or_si256(_mm256_and_si256(sign, _mm256_slli_epi16(e, 7)), _mm256_andnot_si256(sign, s));
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
}

inline float sum_lanes(__m256 v) {  // in the order of the dense kernel
  __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  h = _mm_add_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}

void dot(Fx3DotArgs& d) {
  alignas(64) uint8_t panel[4 * kPanelStride];
  for (size_t r = 0; r < 4; ++r)
    d.escapes[r] = exponents(d.tiles[r], d.count, d.base[r], d.escapes[r], panel + r * kPanelStride);
  __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  const float* x = d.x;
  for (size_t i = 0; i < d.count; ++i, x += formats::kFx3Tile)
    for (size_t r = 0; r < 4; ++r) {
      const uint8_t* e = panel + r * kPanelStride + i * formats::kFx3Tile;
      const uint8_t* sm = d.tiles[r] + i * formats::kFx3TileBytes + 24;
      const auto* next = reinterpret_cast<const char*>(d.next[r] + i * formats::kFx3TileBytes);
      _mm_prefetch(next, _MM_HINT_T0);
      _mm_prefetch(next + 64, _MM_HINT_T0);
      const HalfWords a = words_of(e, sm), b = words_of(e + 32, sm + 32);
      sum[r] = fma16(a.low, x, sum[r]);
      sum[r] = fma16(b.low, x + 16, sum[r]);
      sum[r] = fma16(a.high, x + 32, sum[r]);
      sum[r] = fma16(b.high, x + 48, sum[r]);
    }
  for (size_t r = 0; r < 4; ++r) d.y[r] += sum_lanes(sum[r]);
}

}  // namespace

const Fx3Kernel& avx2_fx3_kernel() {
  static constexpr Fx3Kernel kKernel{"avx2", Isa::kAvx2, &decode, &dot};
  return kKernel;
}
}  // namespace fettle::kernels
#pragma GCC pop_options
#endif
