// Dense dot-product tiles of one x86 level, on that level's V, loaders and tile sizes; included inside its namespace.
// Every (token, row) sum has its own register, filled in k order, so a tile of any shape gives the same bits.

template <typename Load, int T, int R, int half>
inline void fma_half(const uint8_t* const (&w)[R], const uint8_t* x, size_t x_stride, V (&sum)[T][R]) {
  V row[R];
  for (int r = 0; r < R; ++r) row[r] = Load::template get<half>(w[r]);
  for (int t = 0; t < T; ++t) {
    const V xt = load_x(x + static_cast<size_t>(t) * x_stride, half);
    for (int r = 0; r < R; ++r) sum[t][r] = fma_v(row[r], xt, sum[t][r]);
  }
}

// kStep values of k.
template <typename Load, int T, int R>
inline void step(const uint8_t* const (&w)[R], const uint8_t* x, size_t x_stride, V (&sum)[T][R]) {
#if defined(FETTLE_BF16_DOT)
  if constexpr (Load::kForm == DenseForm::kBF16) {
    __m512i row[R];
    for (int r = 0; r < R; ++r) row[r] = _mm512_loadu_si512(w[r]);
    for (int t = 0; t < T; ++t) {
      const auto xt = (__m512bh)_mm512_loadu_si512(x + static_cast<size_t>(t) * x_stride);
      for (int r = 0; r < R; ++r) sum[t][r] = _mm512_dpbf16_ps(sum[t][r], (__m512bh)row[r], xt);
    }
    return;
  } else
#endif
  {
    fma_half<Load, T, R, 0>(w, x, x_stride, sum);
    fma_half<Load, T, R, 1>(w, x, x_stride, sum);
  }
}

template <typename Load, int T, int R>
void tile(const DenseArgs& d, size_t t0, size_t n0) {
  constexpr size_t kStepBytes = kStep * Load::kBytes;
  const size_t x_step = kStep * dense_act_bytes(Load::kForm);
  const uint8_t* w[R];
  for (int r = 0; r < R; ++r) w[r] = d.w + (n0 + static_cast<size_t>(r)) * d.w_stride;
  const uint8_t* x = d.x + t0 * d.x_stride;
  V sum[T][R];
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < R; ++r) sum[t][r] = zero_v();
  size_t k = 0;
  for (; k + kStep <= d.cols; k += kStep) {
    step<Load, T, R>(w, x, d.x_stride, sum);
    for (int r = 0; r < R; ++r) w[r] += kStepBytes;
    x += x_step;
  }
  if (k < d.cols) {  // the last values of each row, zero-padded; activations are padded already
    alignas(64) uint8_t tail[R][kStepBytes] = {};
    for (int r = 0; r < R; ++r) {
      std::memcpy(tail[r], w[r], (d.cols - k) * Load::kBytes);
      w[r] = tail[r];
    }
    step<Load, T, R>(w, x, d.x_stride, sum);
  }
  for (int t = 0; t < T; ++t) {
    float* y = d.y + (t0 + static_cast<size_t>(t)) * d.y_stride + n0;
    for (int r = 0; r < R; ++r) {
      const float total = sum_v(sum[t][r]);
      y[r] = d.add ? y[r] + total : total;
    }
  }
}

template <typename Load, int T>
void tile_rows(const DenseArgs& d, size_t t0) {
  size_t n = 0;
  constexpr int kRows = T == 1 ? kSingleRows : kTileRows;
  for (; n + kRows <= d.rows; n += kRows) tile<Load, T, kRows>(d, t0, n);
  for (; n < d.rows; ++n) tile<Load, T, 1>(d, t0, n);
}

template <typename Load>
void dot_all(const DenseArgs& d) {
  size_t t = 0;
  for (; t + 4 <= d.tokens; t += 4) tile_rows<Load, 4>(d, t);
  for (; t + 2 <= d.tokens; t += 2) tile_rows<Load, 2>(d, t);
  for (; t < d.tokens; ++t) tile_rows<Load, 1>(d, t);
}

DenseForm act_form(DType type) {
  if (type == DType::kF32) return LoadF32::kForm;
  return type == DType::kF16 ? LoadF16::kForm : LoadBF16::kForm;
}

void dot(const DenseArgs& d) {
  switch (d.type) {
    case DType::kF32:
      return dot_all<LoadF32>(d);
    case DType::kF16:
      return dot_all<LoadF16>(d);
    default:
      return dot_all<LoadBF16>(d);
  }
}

#if defined(FETTLE_BF16_DOT)
// Rounds to nearest even; subnormals become zero.
void pack_bf16(const float* x, size_t cols, uint8_t* out) {
  size_t k = 0;
  const auto put = [&](const float* from) {
    const auto v = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * k), v);
  };
  for (; k + 16 <= cols; k += 16) put(x + k);
  const size_t padded = round_up(cols, kDensePad);
  float tail[16];
  for (; k < padded; k += 16) {
    for (size_t i = 0; i < 16; ++i) tail[i] = k + i < cols ? x[k + i] : 0.0f;
    put(tail);
  }
}
#endif

void pack_acts(const float* x, size_t cols, DenseForm form, uint8_t* out) {
#if defined(FETTLE_BF16_DOT)
  if (form == DenseForm::kBF16) return pack_bf16(x, cols, out);
#endif
  auto* to = reinterpret_cast<float*>(out);
  const size_t padded = round_up(cols, kDensePad);
  if (form == DenseForm::kF32) {
    std::memcpy(to, x, cols * sizeof(float));
    std::memset(to + cols, 0, (padded - cols) * sizeof(float));
    return;
  }
  constexpr size_t kHalf = kStep / 2;
  size_t k = 0;
  for (; k + kStep <= cols; k += kStep)
    for (size_t i = 0; i < kHalf; ++i) {
      to[k + i] = x[k + 2 * i];
      to[k + kHalf + i] = x[k + 2 * i + 1];
    }
  std::memset(to + k, 0, (padded - k) * sizeof(float));
  for (size_t i = k; i < cols; ++i) to[k + (i - k) % 2 * kHalf + (i - k) / 2] = x[i];
}
