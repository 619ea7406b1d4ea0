#pragma once

// Include inside a target region. Lambdas name a capture default: one without gets a
// function-pointer thunk, which g++ compiles outside the region.
#include "kernels/simd/exp2_inl.h"

namespace fettle::kernels::detail {

template <class V>
struct Elementwise {
  using F = typename V::F;

  // The last n < 16 elements, the rest filled.
  static F load_some(const float* p, size_t n, float fill) {
    alignas(64) float tail[16];
    for (float& x : tail) x = fill;
    std::memcpy(tail, p, n * sizeof(float));
    return V::load(tail);
  }
  static void store_some(float* p, F a, size_t n) {
    alignas(64) float tail[16];
    V::store(tail, a);
    std::memcpy(p, tail, n * sizeof(float));
  }

  // y[i] = body(inputs at i...) with a padded last step.
  template <class Body>
  static FETTLE_INLINE void map(size_t n, float* y, const Body& body, const float* a) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) V::store(y + i, body(V::load(a + i)));
    if (i < n) store_some(y + i, body(load_some(a + i, n - i, 0)), n - i);
  }
  template <class Body>
  static FETTLE_INLINE void map(size_t n, float* y, const Body& body, const float* a, const float* b) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) V::store(y + i, body(V::load(a + i), V::load(b + i)));
    if (i < n) store_some(y + i, body(load_some(a + i, n - i, 0), load_some(b + i, n - i, 0)), n - i);
  }

  // Sum of body(x) over the row; four independent sums hide the latency. body(fill) must be 0.
  template <class Body>
  static FETTLE_INLINE float sum(const float* x, size_t n, float fill, const Body& body) {
    F acc[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
      FETTLE_UNROLL
      for (size_t u = 0; u < 4; ++u) acc[u] = body(V::load(x + i + 16 * u), acc[u]);
    }
    for (; i + 16 <= n; i += 16) acc[0] = body(V::load(x + i), acc[0]);
    if (i < n) acc[1] = body(load_some(x + i, n - i, fill), acc[1]);
    return V::reduce_add(V::add(V::add(acc[0], acc[1]), V::add(acc[2], acc[3])));
  }

  static FETTLE_INLINE F bounded(F v) { return V::min(V::set(127.0f), v); }
  static void exp2(const float* x, size_t n, int degree, float* y) {
    if (degree == 3)
      return map(
          n, y, [&](F v) { return simd::exp2_poly<V, 3>(bounded(v)); }, x);
    if (degree == 4)
      return map(
          n, y, [&](F v) { return simd::exp2_poly<V, 4>(bounded(v)); }, x);
    map(
        n, y, [&](F v) { return simd::exp2_poly<V, 5>(bounded(v)); }, x);
  }

  static void rms_norm(const float* x, const float* w, float eps, NormWeight kind, size_t n, float* y) {
    const float squares = sum(x, n, 0, [&](F v, F acc) { return V::fma(v, v, acc); });
    const F inv = V::set(1.0f / std::sqrt(squares / static_cast<float>(n) + eps));
    if (!w)
      return map(
          n, y, [&](F v) { return V::mul(v, inv); }, x);
    const F offset = V::set(kind == NormWeight::kOnePlus ? 1.0f : 0.0f);
    map(
        n, y, [&](F v, F weight) { return V::mul(V::mul(v, inv), V::add(weight, offset)); }, x, w);
  }

  static void layer_norm(const float* x, const float* w, const float* b, float eps, size_t n, float* y) {
    const float mean = sum(x, n, 0, [&](F v, F acc) { return V::add(v, acc); }) / static_cast<float>(n);
    const F center = V::set(mean);
    const float squares = sum(x, n, mean, [&](F v, F acc) {
      const F d = V::sub(v, center);
      return V::fma(d, d, acc);
    });
    const F inv = V::set(1.0f / std::sqrt(squares / static_cast<float>(n) + eps));
    map(
        n, y, [&](F v) { return V::mul(V::sub(v, center), inv); }, x);
    if (w)
      map(
          n, y, [&](F v, F weight) { return V::mul(v, weight); }, y, w);
    if (b)
      map(
          n, y, [&](F v, F bias) { return V::add(v, bias); }, y, b);
  }

  static FETTLE_INLINE void rotate(F& a, F& b, F cos, F sin) {
    const F old = a;
    a = V::fma(a, cos, V::sub(V::zero(), V::mul(b, sin)));
    b = V::fma(b, cos, V::mul(old, sin));
  }
  static void rope_halves(float* x, const float* cos, const float* sin, size_t half) {
    for (size_t d = 0; d < half; d += 16) {
      const size_t n = std::min<size_t>(16, half - d);
      const bool whole = n == 16;
      F a = whole ? V::load(x + d) : load_some(x + d, n, 0);
      F b = whole ? V::load(x + half + d) : load_some(x + half + d, n, 0);
      rotate(a, b, whole ? V::load(cos + d) : load_some(cos + d, n, 0),
             whole ? V::load(sin + d) : load_some(sin + d, n, 0));
      store_some(x + d, a, n);
      store_some(x + half + d, b, n);
    }
  }
  static void rope_pairs(float* x, const float* cos, const float* sin, size_t half) {
    alignas(64) float first[16] = {}, second[16] = {};
    for (size_t d = 0; d < half; d += 16) {
      const size_t n = std::min<size_t>(16, half - d);
      for (size_t i = 0; i < n; ++i) {
        first[i] = x[2 * (d + i)];
        second[i] = x[2 * (d + i) + 1];
      }
      F a = V::load(first), b = V::load(second);
      rotate(a, b, load_some(cos + d, n, 0), load_some(sin + d, n, 0));
      V::store(first, a);
      V::store(second, b);
      for (size_t i = 0; i < n; ++i) {
        x[2 * (d + i)] = first[i];
        x[2 * (d + i) + 1] = second[i];
      }
    }
  }

  // x / (1 + e^-t)
  static FETTLE_INLINE F times_sigmoid(F x, F t) {
    return V::div(x, V::add(V::set(1.0f), simd::exp_poly<V>(V::sub(V::zero(), t))));
  }
  static void gated(const float* gate, const float* up, Gate kind, size_t n, float* out) {
    if (kind == Gate::kSilu)
      return map(
          n, out, [&](F g, F u) { return V::mul(times_sigmoid(g, g), u); }, gate, up);
    // 0.5 (1 + tanh(t)) = sigmoid(2 t), t = sqrt(2/pi) (g + 0.044715 g^3)
    map(
        n, out,
        [&](F g, F u) {
          const F cubic = V::fma(V::mul(V::mul(g, g), V::set(0.044715f)), g, g);
          return V::mul(times_sigmoid(g, V::mul(cubic, V::set(1.59576912160573f))), u);
        },
        gate, up);
  }

  static void add(const float* a, const float* b, size_t n, float* out) {
    map(
        n, out, [&](F x, F y) { return V::add(x, y); }, a, b);
  }
  static void scale(const float* x, float factor, size_t n, float* out) {
    const F f = V::set(factor);
    map(
        n, out, [&](F v) { return V::mul(v, f); }, x);
  }
  static void softcap(const float* x, float cap, size_t n, float* out) {
    const F c = V::set(cap), inv = V::set(1.0f / cap);
    map(
        n, out, [&](F v) { return V::mul(simd::tanh_poly<V>(V::mul(v, inv)), c); }, x);
  }

  // Largest element; NaN when any element is NaN or +inf.
  static float checked_max(const float* x, size_t n) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    F tops = V::set(-kInf);
    auto nans = V::no_mask();
    for (size_t i = 0; i < n; i += 16) {
      const F v = i + 16 <= n ? V::load(x + i) : load_some(x + i, n - i, -kInf);
      tops = V::max(v, tops);
      nans = V::or_mask(nans, V::unordered(v));
    }
    const float top = V::reduce_max(tops);
    return V::mask_bits(nans) || top == kInf ? std::numeric_limits<float>::quiet_NaN() : top;
  }

  static void softmax(const float* x, float scale, size_t n, float* y) {
    const float top = checked_max(x, n);
    if (!(top > -std::numeric_limits<float>::infinity())) {
      std::fill_n(y, n, std::isnan(top) ? top : 0.0f);
      return;
    }
    const F c = V::set(scale * 1.44269504f), offset = V::set(-(top * (scale * 1.44269504f)));
    map(
        n, y, [&](F v) { return simd::exp2_poly<V, 5>(V::fma(v, c, offset)); }, x);
    const float total = sum(y, n, 0, [&](F v, F acc) { return V::add(v, acc); });
    const F inv = V::set(1.0f / total);
    map(
        n, y, [&](F v) { return V::mul(v, inv); }, y);
  }

  static float log_sum_exp(const float* x, size_t n) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    const float top = checked_max(x, n);
    if (!(top > -kInf)) return top;
    const F shift = V::set(top);
    const float total = sum(x, n, -kInf, [&](F v, F acc) { return V::add(simd::exp_poly<V>(V::sub(v, shift)), acc); });
    return top + std::log(total);
  }

  static ArgMax argmax(const float* x, size_t n) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    F best = V::set(-kInf), ids = V::from_bits(V::set_int(0xFFFFFFFFu));
    size_t nonfinite = 0;
    alignas(64) uint32_t lane_ids[16];
    for (uint32_t i = 0; i < 16; ++i) lane_ids[i] = i;
    auto id = V::load_int(lane_ids);
    const auto step = V::set_int(16);
    const F largest = V::set(std::numeric_limits<float>::max());
    for (size_t i = 0; i < n; i += 16, id = V::add_int(id, step)) {
      const F v = i + 16 <= n ? V::load(x + i) : load_some(x + i, n - i, -kInf);
      const unsigned bad = V::mask_bits(V::or_mask(V::unordered(v), V::less(largest, v)));
      if (bad) nonfinite += static_cast<size_t>(__builtin_popcount(bad));
      const auto better = V::less(best, v);
      best = V::select(better, v, best);
      ids = V::select(better, V::from_bits(id), ids);
    }
    alignas(64) float values[16];
    V::store(values, best);
    V::store_int(lane_ids, V::bits(ids));
    ArgMax r{0, -kInf, nonfinite};
    for (size_t i = 0; i < 16; ++i)
      if (values[i] > r.value || (values[i] == r.value && values[i] > -kInf && lane_ids[i] < r.id))
        r = {lane_ids[i], values[i], nonfinite};
    return r;
  }

  static void mul(const float* a, const float* b, size_t n, float* out) {
    map(
        n, out, [&](F v, F w) { return V::mul(v, w); }, a, b);
  }

  // Lanes without bit N become a + b, lanes with it a - b, for pairs N lanes apart.
  template <int N>
  static FETTLE_INLINE F butterfly(F v) {
    alignas(64) uint32_t signs[16];
    for (uint32_t i = 0; i < 16; ++i) signs[i] = (i & N) != 0 ? 0x80000000u : 0u;
    const F own = V::from_bits(V::xor_int(V::bits(v), V::load_int(signs)));
    return V::add(V::template swap_lanes<N>(v), own);
  }
  static FETTLE_INLINE F butterflies(F v, size_t k) {
    if (k > 1) v = butterfly<1>(v);
    if (k > 2) v = butterfly<2>(v);
    if (k > 4) v = butterfly<4>(v);
    if (k > 8) v = butterfly<8>(v);
    return v;
  }
  static void hadamard(const float* x, size_t n, size_t k, float factor, float* y) {
    const F f = V::set(factor);
    if (k <= 16)
      return map(
          n, y, [&](F v) { return V::mul(butterflies(v, k), f); }, x);
    for (size_t i = 0; i < n; i += 16) V::store(y + i, butterflies(V::load(x + i), 16));
    for (size_t h = 16; h < k; h *= 2) {
      const F last = V::set(2 * h == k ? factor : 1.0f);
      for (size_t begin = 0; begin < n; begin += 2 * h)
        for (size_t i = begin; i < begin + h; i += 16) {
          const F a = V::load(y + i), b = V::load(y + i + h);
          V::store(y + i, V::mul(V::add(a, b), last));
          V::store(y + i + h, V::mul(V::sub(a, b), last));
        }
    }
  }

  static void rotate(const float* x, size_t n, size_t k, const float* m, float* y) {
    for (size_t begin = 0; begin < n; begin += k)
      for (size_t j = 0; j < k; j += 16) {
        const size_t lanes = std::min<size_t>(16, k - j);
        F acc = V::zero();
        for (size_t i = 0; i < k; ++i) {
          const float* row = m + i * k + j;
          acc = V::fma(V::set(x[begin + i]), lanes == 16 ? V::load(row) : load_some(row, lanes, 0), acc);
        }
        store_some(y + begin + j, acc, lanes);
      }
  }

  static size_t find_greater(const float* x, size_t from, size_t n, float threshold) {
    const F bound = V::set(threshold);
    size_t i = from;
    for (; i + 16 <= n; i += 16) {
      const unsigned hits = V::mask_bits(V::less(bound, V::load(x + i)));
      if (hits) return i + static_cast<size_t>(__builtin_ctz(hits));
    }
    while (i < n && !(x[i] > threshold)) ++i;
    return i;
  }

  static constexpr ElementwiseKernels table() {
    return {&exp2, &rms_norm, &layer_norm, &rope_halves, &rope_pairs, &gated,       &add,    &scale,
            &mul,  &hadamard, &rotate,     &softcap,     &softmax,    &log_sum_exp, &argmax, &find_greater};
  }
};

}  // namespace fettle::kernels::detail
