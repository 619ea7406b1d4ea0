// The kernels of one x86 level, written on the 64-byte vectors of vec_avx2.h or vec_avx512.h; included inside that
// level's namespace. Exact integer sums over 16 or 32 k per row, then one fixed fma chain: every level gives the same
// bits as quant_scalar.cpp.

// ---- Loaders: 8 k of 16 rows, as two vectors of 4 k each ----

struct Tables {
  I low, high;
};

struct NibbleLoad {
  static constexpr size_t kUnitBytes = 64;
  static constexpr int kMaxValue = 15;
  static void get(const uint8_t* p, const Tables&, I& first, I& second) {
    const I codes = load(p), mask = set1_8(15);
    first = and_i(codes, mask);
    second = and_i(srl16<4>(codes), mask);
  }
};

// Tables of values up to 31 (E2M1) when sums are 16 bits wide, any u8 with VNNI.
struct TableLoad {
  static constexpr size_t kUnitBytes = 64;
  static constexpr int kMaxValue = 31;
  static void get(const uint8_t* p, const Tables& tables, I& first, I& second) {
    NibbleLoad::get(p, tables, first, second);
    first = shuffle8(tables.low, first);
    second = shuffle8(tables.low, second);
  }
};

template <int max_value>
struct ByteLoad {
  static constexpr size_t kUnitBytes = 128;
  static constexpr int kMaxValue = max_value;
  static void get(const uint8_t* p, const Tables&, I& first, I& second) {
    first = load(p);
    second = load(p + 64);
  }
};

// Word loaders give, for the first or second 4 k of a unit, the s16 pairs (k0, k2) and (k1, k3).
template <typename Bytes>
struct WideLoad {
  static constexpr size_t kUnitBytes = Bytes::kUnitBytes;
  template <int half>
  static void get(const uint8_t* p, const Tables& tables, I (&words)[2]) {
    I codes[2];
    Bytes::get(p, tables, codes[0], codes[1]);
    words[0] = and_i(codes[half], set1_16(255));
    words[1] = srl16<8>(codes[half]);
  }
};

struct Table16Load {
  static constexpr size_t kUnitBytes = 64;
  template <int half>
  static void get(const uint8_t* p, const Tables& tables, I (&words)[2]) {
    I codes[2];
    NibbleLoad::get(p, tables, codes[0], codes[1]);
    const I low = shuffle8(tables.low, codes[half]), high = shuffle8(tables.high, codes[half]);
    words[0] = or_i(and_i(low, set1_16(255)), sll16<8>(high));
    words[1] = or_i(srl16<8>(low), and_i(high, set1_16(-256)));
  }
};

struct WordLoad {  // a panel of unpacked words
  static constexpr size_t kUnitBytes = 256;
  template <int half>
  static void get(const uint8_t* p, const Tables&, I (&words)[2]) {
    for (int i = 0; i < 2; ++i) words[i] = load(p + 128 * half + 64 * i);
  }
};

// ---- Integer sums of one step for T tokens ----

// 16-bit sums: a vpmaddubsw result is at most 2 * max_value * 128. With max_value 15 eight of them stay below 2^15
// (30720), with 31 four (31744): one flush per 32 or per 16 k.
template <typename Load>
constexpr int flush_k() {
  return !ByteSum::kNarrow || Load::kMaxValue <= 15 ? 32 : 16;
}

template <typename Load, int T, int kStep, bool kSplit>
inline void step_bytes(const uint8_t*& w, const uint8_t* acts, size_t stride, const Tables& tables, I (&sum)[T]) {
  constexpr int kFlush = flush_k<Load>() < kStep ? flush_k<Load>() : kStep;
  constexpr int kActs = kSplit ? 8 : 4;
  for (int f = 0; f < kStep / kFlush; ++f) {
    ByteSum high[T], low[T];  // no constructors: implicit ones would lack the target attribute
    for (int t = 0; t < T; ++t) high[t].sum = low[t].sum = zero_i();
    for (int u = 0; u < kFlush / 8; ++u) {
      I codes[2];
      Load::get(w, tables, codes[0], codes[1]);
      w += Load::kUnitBytes;
      for (int h = 0; h < 2; ++h) {
        for (int t = 0; t < T; ++t) {
          const uint8_t* a = acts + static_cast<size_t>(t) * stride;
          if constexpr (kSplit) {
            high[t].mac(codes[h], broadcast4(a));
            low[t].mac(codes[h], broadcast4(a + 4));
          } else {
            low[t].mac(codes[h], broadcast4(a));
          }
        }
        acts += kActs;
      }
    }
    for (int t = 0; t < T; ++t) {
      sum[t] = add32(sum[t], low[t].times(1));
      if constexpr (kSplit) sum[t] = add32(sum[t], high[t].times(256));
    }
  }
}

template <typename Load, int T, int half>
inline void half_unit_words(const uint8_t* w, const uint8_t* acts, size_t stride, const Tables& tables, I (&sum)[T]) {
  I words[2];
  Load::template get<half>(w, tables, words);
  for (int i = 0; i < 2; ++i)
    for (int t = 0; t < T; ++t)
      sum[t] = dot_words(sum[t], words[i], broadcast4(acts + static_cast<size_t>(t) * stride + 8 * half + 4 * i));
}

template <typename Load, int T, int kStep>
inline void step_words(const uint8_t*& w, const uint8_t* acts, size_t stride, const Tables& tables, I (&sum)[T]) {
  for (int u = 0; u < kStep / 8; ++u) {
    half_unit_words<Load, T, 0>(w, acts, stride, tables, sum);
    half_unit_words<Load, T, 1>(w, acts, stride, tables, sum);
    w += Load::kUnitBytes;
    acts += 16;
  }
}

// ---- The loop over steps ----

// Single tokens run at memory speed: hardware prefetch stops at each 4 KiB page, this reaches over it (Zen 3, int4:
// 10 -> 14 GB/s of 16 on one core).
inline constexpr size_t kPrefetchBytes = 2048;
inline void prefetch_codes(const uint8_t* w, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(w + kPrefetchBytes + i), _MM_HINT_T0);
}

enum class Sum { kBytes, kSplit, kWords };

template <typename Load, Sum kSum, int T, int kStep>
void dot_tile(const DotArgs& d, size_t t0) {
  const Tables tables{broadcast16(d.spec->table), broadcast16(d.spec->table_high)};
  const uint8_t* w = d.codes;
  const uint8_t* acts = d.acts + t0 * d.act_stride;
  const float* act_scales = d.act_scales + t0 * d.scale_stride;
  const int32_t* corrections = d.corrections + t0 * d.step_stride;
  const float* act_sums = d.act_sums + t0 * d.step_stride;
  float* acc_out = d.acc + t0 * kLanes;
  size_t in_group = d.first_in_group, group = 0;
  F acc[T];
  for (int t = 0; t < T; ++t) acc[t] = loadf(acc_out + static_cast<size_t>(t) * kLanes);
  for (size_t s = 0; s < d.steps; ++s) {
    I sum[T];
    if (d.zero_points) {
      const I zero = load(d.zero_points + group * kLanes);
      for (int t = 0; t < T; ++t)
        sum[t] = sub32(zero_i(), mul32(zero, set1_32(corrections[static_cast<size_t>(t) * d.step_stride + s])));
    } else {
      for (int t = 0; t < T; ++t) sum[t] = set1_32(corrections[static_cast<size_t>(t) * d.step_stride + s]);
    }
    if constexpr (kSum == Sum::kWords) {
      step_words<Load, T, kStep>(w, acts, d.act_stride, tables, sum);
    } else {
      step_bytes<Load, T, kStep, kSum == Sum::kSplit>(w, acts, d.act_stride, tables, sum);
    }
    acts += kStep * (kSum == Sum::kBytes ? 1 : 2);
    if constexpr (T == 1) prefetch_codes(w, Load::kUnitBytes * kStep / 8);
    const F scale = loadf(d.scales + group * kLanes);
    const size_t block = s * kStep / kActBlock;
    for (int t = 0; t < T; ++t) {
      const F factor = mulf(scale, set1f(act_scales[static_cast<size_t>(t) * d.scale_stride + block]));
      acc[t] = fmaf16(to_float(sum[t]), factor, acc[t]);
    }
    if (d.mins) {
      const F min = loadf(d.mins + group * kLanes);
      for (int t = 0; t < T; ++t)
        acc[t] = fmaf16(min, set1f(act_sums[static_cast<size_t>(t) * d.step_stride + s]), acc[t]);
    }
    if (++in_group == d.steps_per_group) {
      in_group = 0;
      ++group;
    }
  }
  for (int t = 0; t < T; ++t) storef(acc_out + static_cast<size_t>(t) * kLanes, acc[t]);
}

template <typename Load, Sum kSum, int kMaxT>
void dot_tokens(const DotArgs& d) {
  size_t t = 0;
  const auto tiles = [&]<int T>() {
    for (; d.tokens - t >= static_cast<size_t>(T); t += T) {
      if (d.step == 32) {
        dot_tile<Load, kSum, T, 32>(d, t);
      } else {
        dot_tile<Load, kSum, T, 16>(d, t);
      }
    }
  };
  if constexpr (kMaxT >= 8) tiles.template operator()<8>();
  if constexpr (kMaxT >= 4) tiles.template operator()<4>();
  tiles.template operator()<2>();
  tiles.template operator()<1>();
}

template <typename Load>
void dot_byte_sums(const DotArgs& d) {
  if (d.form == ActForm::kSplit) {
    dot_tokens<Load, Sum::kSplit, kMaxTokensSplit>(d);
  } else {
    dot_tokens<Load, Sum::kBytes, kMaxTokensBytes>(d);
  }
}

template <typename Load>
void dot_word_sums(const DotArgs& d) {
  dot_tokens<Load, Sum::kWords, kMaxTokensWords>(d);
}

bool narrow(const CodeSpec& spec) { return spec.max_value <= 31; }

void dot(const DotArgs& d) {
  const bool words = d.form == ActForm::kWords;
  switch (d.spec->form) {
    case CodeForm::kNibbleTable16:
      return d.unpacked ? dot_word_sums<WordLoad>(d) : dot_word_sums<Table16Load>(d);
    case CodeForm::kNibble:
      if (!d.unpacked) return dot_byte_sums<NibbleLoad>(d);
      break;
    case CodeForm::kNibbleTable:
      if (!d.unpacked) return words ? dot_word_sums<WideLoad<TableLoad>>(d) : dot_byte_sums<TableLoad>(d);
      break;
    case CodeForm::kByte:
      break;
  }
  if (words) return dot_word_sums<WideLoad<ByteLoad<255>>>(d);
  if (d.spec->max_value <= 15) return dot_byte_sums<ByteLoad<15>>(d);
  dot_byte_sums<ByteLoad<31>>(d);
}

ActForm act_form(const CodeSpec& spec, ActMode mode) {
  if (spec.form == CodeForm::kNibbleTable16 || (ByteSum::kNarrow && !narrow(spec))) return ActForm::kWords;
  return mode == ActMode::kA8 ? ActForm::kBytes : ActForm::kSplit;
}

void unpack(const CodeSpec& spec, const uint8_t* codes, size_t k, uint8_t* panel) {
  const Tables tables{broadcast16(spec.table), broadcast16(spec.table_high)};
  for (size_t i = 0; i < k; i += 8, codes += 64) {
    if (spec.form == CodeForm::kNibbleTable16) {
      I words[2];
      Table16Load::get<0>(codes, tables, words);
      for (int j = 0; j < 2; ++j) store(panel + 64 * j, words[j]);
      Table16Load::get<1>(codes, tables, words);
      for (int j = 0; j < 2; ++j) store(panel + 128 + 64 * j, words[j]);
      panel += 256;
    } else {
      I first, second;
      if (spec.form == CodeForm::kNibble) {
        NibbleLoad::get(codes, tables, first, second);
      } else {
        TableLoad::get(codes, tables, first, second);
      }
      store(panel, first);
      store(panel + 64, second);
      panel += 128;
    }
  }
}

// ---- fp8 ----

// E4M3 bits moved into a half have the value * 2^-8 (subnormals included): exponent bias 15 - 7.
inline F fp8_values(const uint8_t* p) {
  const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<short>(0xBFFF)));
  return mulf(from_half(half), set1f(256.0f));
}

void unpack_fp8(const uint8_t* codes, size_t k, float* panel) {
  for (size_t i = 0; i < k; ++i) storef(panel + i * kLanes, fp8_values(codes + i * kLanes));
}

template <int T, bool kPanel>
void fp8_tile(const Fp8Args& d, size_t t0) {
  const float* x = d.x + t0 * d.x_stride;
  float* acc_out = d.acc + t0 * kLanes;
  F acc[T];
  for (int t = 0; t < T; ++t) acc[t] = loadf(acc_out + static_cast<size_t>(t) * kLanes);
  const auto value = [&](size_t k) {
    if constexpr (kPanel) {
      return loadf(d.panel + k * kLanes);
    } else {
      return fp8_values(d.codes + k * kLanes);
    }
  };
  const float* scales = d.scales;
  for (size_t begin = 0; begin < d.cols; begin += d.group, scales += kLanes) {
    const size_t end = d.cols - begin < d.group ? d.cols : begin + d.group;
    F even[T], odd[T];
    for (int t = 0; t < T; ++t) even[t] = odd[t] = set1f(0.0f);
    size_t k = begin;
    for (; k + 1 < end; k += 2) {
      const F w0 = value(k), w1 = value(k + 1);
      for (int t = 0; t < T; ++t) {
        const float* xt = x + static_cast<size_t>(t) * d.x_stride + k;
        even[t] = pin_f(fmaf16(w0, set1f(xt[0]), even[t]));
        odd[t] = pin_f(fmaf16(w1, set1f(xt[1]), odd[t]));
      }
    }
    if (k < end) {
      const F w0 = value(k);
      for (int t = 0; t < T; ++t) even[t] = fmaf16(w0, set1f(x[static_cast<size_t>(t) * d.x_stride + k]), even[t]);
    }
    const F scale = loadf(scales);
    for (int t = 0; t < T; ++t) acc[t] = fmaf16(scale, addf(even[t], odd[t]), acc[t]);
  }
  for (int t = 0; t < T; ++t) storef(acc_out + static_cast<size_t>(t) * kLanes, acc[t]);
}

void fp8(const Fp8Args& d) {
  size_t t = 0;
  const auto tiles = [&]<int T>() {
    for (; d.tokens - t >= static_cast<size_t>(T); t += T) {
      if (d.panel) {
        fp8_tile<T, true>(d, t);
      } else {
        fp8_tile<T, false>(d, t);
      }
    }
  };
  if constexpr (kMaxTokensFp8 >= 8) tiles.template operator()<8>();
  tiles.template operator()<3>();
  tiles.template operator()<1>();
}

// ---- Conversions shared by all x86 levels (256-bit) ----

// Largest |x| of 32 values as bits (NaN above infinity above finite).
inline uint32_t max_magnitude(const float* x) {
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  __m256i m = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i)
    m = _mm256_max_epi32(m, _mm256_and_si256(mask, _mm256_castps_si256(_mm256_loadu_ps(x + 8 * i))));
  __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xB1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(h));
}

inline int32_t sum_lanes(__m256i v) {
  __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xB1));
  return _mm_cvtsi128_si32(h);
}

// 16 s16 in k order -> storage of `form`.
inline void store_acts16(__m256i words, ActForm form, uint8_t* out) {
  if (form == ActForm::kWords) {
    const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,  //
                                           0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_shuffle_epi8(words, order));
    return;
  }
  const auto to_bytes = [](__m256i w) {
    return _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
  };
  auto* dst = reinterpret_cast<__m128i*>(out);
  if (form == ActForm::kBytes) {
    _mm_storeu_si128(dst, to_bytes(words));
    return;
  }
  const __m256i high = _mm256_srai_epi16(_mm256_add_epi16(words, _mm256_set1_epi16(128)), 8);
  const __m256i low = _mm256_sub_epi16(words, _mm256_slli_epi16(high, 8));
  const __m128i h = to_bytes(high), l = to_bytes(low);
  _mm_storeu_si128(dst, _mm_unpacklo_epi32(h, l));
  _mm_storeu_si128(dst + 1, _mm_unpackhi_epi32(h, l));
}

void pack_acts(const float* x, const ActKey& key, const ActRow& out) {
  const size_t blocks = key.padded_cols / kActBlock;
  alignas(32) float tail[kActBlock];
  for (size_t b = 0; b < blocks; ++b) {
    const float* src = act_block(x, key, b, tail);
    const BlockScale scale = block_scale(max_magnitude(src), key.limit);
    const __m256 inverse = _mm256_set1_ps(scale.inverse);
    __m256i q[4];
    for (int i = 0; i < 4; ++i)
      q[i] = scale.zero ? _mm256_setzero_si256()
                        : _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(src + 8 * i), inverse));
    for (int h = 0; h < 2; ++h) {
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[2 * h], q[2 * h + 1]), 0xD8);
      store_acts16(words, key.form, out.codes + (b * kActBlock + 16 * static_cast<size_t>(h)) * act_bytes(key.form));
    }
    const int32_t first = sum_lanes(_mm256_add_epi32(q[0], q[1])), second = sum_lanes(_mm256_add_epi32(q[2], q[3]));
    store_block_sums(key, b, scale.scale, first, second, out);
  }
}

// n values, a multiple of 16, to F32.
void widen(DType dtype, const uint8_t* src, size_t n, float* dst) {
  const auto words = [&](size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + 2 * i)); };
  const auto bytes = [&](size_t i) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(src + i)); };
  const auto put = [&](size_t i, __m256 v) { _mm256_storeu_ps(dst + i, v); };
  switch (dtype) {
    case DType::kF32:
      __builtin_memcpy(dst, src, n * sizeof(float));
      return;
    case DType::kF16:
      for (size_t i = 0; i < n; i += 8) put(i, _mm256_cvtph_ps(words(i)));
      return;
    case DType::kBF16:
      for (size_t i = 0; i < n; i += 8)
        put(i, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words(i)), 16)));
      return;
    case DType::kF8E8M0:  // code 0 is 2^-127; NaN (255) was refused by prepare
      for (size_t i = 0; i < n; i += 8)
        put(i, _mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes(i)), 23),
                                                    _mm256_set1_epi32(0x00400000))));
      return;
    case DType::kF8E4M3:  // sign bit 0: prepare moved signs into the codes
      for (size_t i = 0; i < n; i += 8)
        put(i, _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes(i)), 20)),
                             _mm256_set1_ps(0x1p120f)));
      return;
    case DType::kI8:
      for (size_t i = 0; i < n; i += 8) put(i, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes(i))));
      return;
    default:
      for (size_t i = 0; i < n; i += 8) put(i, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes(i))));
  }
}

void scale_groups(const float* factor, size_t n, float* values) {
  const F f = loadf(factor);
  for (size_t g = 0; g < n; ++g) storef(values + g * kLanes, mulf(f, loadf(values + g * kLanes)));
}
