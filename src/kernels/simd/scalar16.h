#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/simd/target.h"

namespace fettle::kernels::simd {

// Portable vector of 16 floats, and the contract of the other levels (avx2_16.h, avx512_16.h): every operation is one
// IEEE operation per lane, fused where it says fma, and reductions use the same tree, so that kernels written on this
// interface give equal bits on every level.
struct Scalar16 {
  static constexpr size_t kRows = 6;        // rows of a matrix tile
  static constexpr size_t kColumns = 1;     // vectors of 16 beside each other in it
  static constexpr size_t kDirectRows = 4;  // rows per pass where operands are converted in registers
  static constexpr size_t kDirectSums = 4;  // and vectors of 16 those rows keep summing

  struct F {
    float v[16];
  };
  struct I {
    uint32_t v[16];
  };
  struct M {
    uint16_t bits;
  };

  template <class Op>
  static FETTLE_INLINE F map(Op op) {
    F r;
    for (int i = 0; i < 16; ++i) r.v[i] = op(i);
    return r;
  }
  template <class Op>
  static FETTLE_INLINE I map_int(Op op) {
    I r;
    for (int i = 0; i < 16; ++i) r.v[i] = op(i);
    return r;
  }
  template <class Op>
  static FETTLE_INLINE M map_mask(Op op) {
    unsigned bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<unsigned>(op(i)) << i;
    return {static_cast<uint16_t>(bits)};
  }

  static FETTLE_INLINE F zero() { return set(0.0f); }
  static FETTLE_INLINE F set(float x) {
    return map([x](int) { return x; });
  }
  static FETTLE_INLINE F load(const float* p) {
    F r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static FETTLE_INLINE void store(float* p, F a) { std::memcpy(p, a.v, sizeof a.v); }
  static FETTLE_INLINE F add(F a, F b) {
    return map([&](int i) { return a.v[i] + b.v[i]; });
  }
  static FETTLE_INLINE F sub(F a, F b) {
    return map([&](int i) { return a.v[i] - b.v[i]; });
  }
  static FETTLE_INLINE F mul(F a, F b) {
    return map([&](int i) { return a.v[i] * b.v[i]; });
  }
  static FETTLE_INLINE F div(F a, F b) {
    return map([&](int i) { return a.v[i] / b.v[i]; });
  }
  static FETTLE_INLINE F fma(F a, F b, F c) {  // a * b + c
    return map([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
  }
  static FETTLE_INLINE F max(F a, F b) {  // b where unordered
    return map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static FETTLE_INLINE F min(F a, F b) {  // b where unordered
    return map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static FETTLE_INLINE F floor(F a) {
    return map([&](int i) { return std::floor(a.v[i]); });
  }
  static FETTLE_INLINE F abs(F a) {
    return map([&](int i) { return std::fabs(a.v[i]); });
  }

  static FETTLE_INLINE I load_int(const void* p) {  // 64 bytes
    I r;
    std::memcpy(r.v, p, sizeof r.v);
    return r;
  }
  static FETTLE_INLINE void store_int(void* p, I a) { std::memcpy(p, a.v, sizeof a.v); }
  static FETTLE_INLINE I set_int(uint32_t x) {
    return map_int([x](int) { return x; });
  }
  static FETTLE_INLINE I bits(F a) {
    return map_int([&](int i) { return std::bit_cast<uint32_t>(a.v[i]); });
  }
  static FETTLE_INLINE F from_bits(I a) {
    return map([&](int i) { return std::bit_cast<float>(a.v[i]); });
  }
  template <int N>
  static FETTLE_INLINE I shl(I a) {
    return map_int([&](int i) { return a.v[i] << N; });
  }
  template <int N>
  static FETTLE_INLINE I shr(I a) {
    return map_int([&](int i) { return a.v[i] >> N; });
  }
  static FETTLE_INLINE I add_int(I a, I b) {
    return map_int([&](int i) { return a.v[i] + b.v[i]; });
  }
  static FETTLE_INLINE I and_int(I a, I b) {
    return map_int([&](int i) { return a.v[i] & b.v[i]; });
  }
  static FETTLE_INLINE I or_int(I a, I b) {
    return map_int([&](int i) { return a.v[i] | b.v[i]; });
  }
  static FETTLE_INLINE I xor_int(I a, I b) {
    return map_int([&](int i) { return a.v[i] ^ b.v[i]; });
  }

  static FETTLE_INLINE M less(F a, F b) {
    return map_mask([&](int i) { return a.v[i] < b.v[i]; });
  }
  static FETTLE_INLINE M unordered(F a) {  // NaN lanes
    return map_mask([&](int i) { return a.v[i] != a.v[i]; });
  }
  static FETTLE_INLINE M or_mask(M a, M b) { return {static_cast<uint16_t>(a.bits | b.bits)}; }
  static FETTLE_INLINE M no_mask() { return {0}; }
  static FETTLE_INLINE unsigned mask_bits(M m) { return m.bits; }
  static FETTLE_INLINE F select(M m, F a, F b) {  // m ? a : b
    return map([&](int i) { return (m.bits >> i & 1) ? a.v[i] : b.v[i]; });
  }
  static FETTLE_INLINE F zero_where(M m, F a) { return select(m, zero(), a); }

  template <int N>
  static FETTLE_INLINE F swap_lanes(F a) {  // lane i from lane i ^ N, N = 1, 2, 4, 8
    return map([&](int i) { return a.v[i ^ N]; });
  }

  // Tree: lanes i and i + 8, then + 4, + 2, + 1.
  static FETTLE_INLINE float reduce_add(F a) {
    for (int width = 8; width >= 1; width /= 2)
      for (int i = 0; i < width; ++i) a.v[i] = a.v[i] + a.v[i + width];
    return a.v[0];
  }
  static FETTLE_INLINE float reduce_max(F a) {  // no NaN lanes
    for (int width = 8; width >= 1; width /= 2)
      for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
    return a.v[0];
  }
};

}  // namespace fettle::kernels::simd
