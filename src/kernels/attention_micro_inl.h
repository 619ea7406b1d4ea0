#pragma once

// Matrix micro-kernels of attention. Every score and every output element is one chain of fused multiply-adds in
// ascending dimension or slot, whatever the grouping, so grouping never changes bits. Include inside a target region.
#include "kernels/attention_formats_inl.h"

namespace fettle::kernels::detail {

// scores[r][16 t + lane] = q[r] . key(tile t, lane); q: [R][dims] with stride, tiles: T K tiles.
template <class V, class Page, size_t R, size_t T>
FETTLE_INLINE void score_tiles(const float* q, size_t q_stride, const std::byte* const* tiles, size_t dims,
                               float* scores, size_t score_stride) {
  using F = typename V::F;
  constexpr size_t kUnit = Page::kUnit;
  F acc[R][T];
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t t = 0; t < T; ++t) acc[r][t] = V::zero();
  }
  // Values that are converted in registers come one tile after the other, so that few of them are live; plain loads go
  // side by side, so that a broadcast serves all tiles.
  const auto step = [&](size_t d, size_t n) __attribute__((always_inline)) {
    if constexpr (kUnit == 1) {
      F key[T];
      FETTLE_UNROLL
      for (size_t t = 0; t < T; ++t) key[t] = Page::template get<0>(Page::load(tiles[t] + d * 64));
      FETTLE_UNROLL
      for (size_t r = 0; r < R; ++r) {
        const F x = V::set(q[r * q_stride + d]);
        FETTLE_UNROLL
        for (size_t t = 0; t < T; ++t) acc[r][t] = V::fma(x, key[t], acc[r][t]);
      }
    } else {
      FETTLE_UNROLL
      for (size_t t = 0; t < T; ++t) {
        const auto raw = Page::load(tiles[t] + d / kUnit * 64);
        unrolled<kUnit>([&]<size_t kIndex>() __attribute__((always_inline)) {
          if (kIndex >= n) return;
          const F key = Page::template get<kIndex>(raw);
          FETTLE_UNROLL
          for (size_t r = 0; r < R; ++r) acc[r][t] = V::fma(V::set(q[r * q_stride + d + kIndex]), key, acc[r][t]);
        });
      }
    }
  };
  size_t d = 0;
  for (; d + kUnit <= dims; d += kUnit) step(d, kUnit);
  if (d < dims) step(d, dims - d);
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t t = 0; t < T; ++t) V::store(scores + r * score_stride + 16 * t, acc[r][t]);
  }
}

// out[r][0 .. 16 C) += sum over slots [first, last) of one V tile; `tile` points at the wanted dimensions.
//   weights: [R] rows of this tile's 16 weights; row_bytes: bytes between units of slots in the tile.
template <class V, class Page, size_t R, size_t C>
FETTLE_INLINE void add_value_tile(const float* weights, size_t weight_stride, const std::byte* tile, size_t row_bytes,
                                  size_t first, size_t last, float* out, size_t out_stride) {
  using F = typename V::F;
  constexpr size_t kUnit = Page::kUnit;
  F acc[R][C];
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) acc[r][c] = V::load(out + r * out_stride + 16 * c);
  }
  const auto step = [&](size_t unit, size_t from, size_t to) __attribute__((always_inline)) {
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) {
      const auto raw = Page::load(tile + unit * row_bytes + 64 * c);
      unrolled<kUnit>([&]<size_t kIndex>() __attribute__((always_inline)) {
        const size_t slot = unit * kUnit + kIndex;
        if (slot < from || slot >= to) return;
        const F value = Page::template get<kIndex>(raw);
        FETTLE_UNROLL
        for (size_t r = 0; r < R; ++r) acc[r][c] = V::fma(V::set(weights[r * weight_stride + slot]), value, acc[r][c]);
      });
    }
  };
  for (size_t unit = first / kUnit; unit * kUnit < last; ++unit) {
    const size_t begin = unit * kUnit, end = begin + kUnit;
    if (begin >= first && end <= last)
      step(unit, begin, end);
    else
      step(unit, first, last);
  }
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) V::store(out + r * out_stride + 16 * c, acc[r][c]);
  }
}

// The same over slots [first, last) of a whole key block whose V was gathered as [chunk][kBlockSlots][16].
template <class V, size_t R, size_t C>
FETTLE_INLINE void add_value_block(const float* weights, size_t weight_stride, const float* v, size_t first,
                                   size_t last, float* out, size_t out_stride) {
  using F = typename V::F;
  F acc[R][C];
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) acc[r][c] = V::load(out + r * out_stride + 16 * c);
  }
  for (size_t slot = first; slot < last; ++slot) {
    F value[C];
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) value[c] = V::load(v + (c * kBlockSlots + slot) * 16);
    FETTLE_UNROLL
    for (size_t r = 0; r < R; ++r) {
      const F weight = V::set(weights[r * weight_stride + slot]);
      FETTLE_UNROLL
      for (size_t c = 0; c < C; ++c) acc[r][c] = V::fma(weight, value[c], acc[r][c]);
    }
  }
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) V::store(out + r * out_stride + 16 * c, acc[r][c]);
  }
}

// Scores by BF16 dot products; q: [R][pairs] of two rounded dimensions each. One chain of pair products per score.
template <class V, size_t R, size_t T>
FETTLE_INLINE void score_tiles_dot(const uint32_t* q, size_t q_stride, const std::byte* const* tiles, size_t pairs,
                                   float* scores, size_t score_stride) {
  typename V::F acc[R][T];
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t t = 0; t < T; ++t) acc[r][t] = V::zero();
  }
  for (size_t i = 0; i < pairs; ++i) {
    typename V::I key[T];
    FETTLE_UNROLL
    for (size_t t = 0; t < T; ++t) key[t] = V::load_int(tiles[t] + 64 * i);
    FETTLE_UNROLL
    for (size_t r = 0; r < R; ++r) {
      const auto x = V::set_int(q[r * q_stride + i]);
      FETTLE_UNROLL
      for (size_t t = 0; t < T; ++t) acc[r][t] = V::dot_bf16(acc[r][t], x, key[t]);
    }
  }
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t t = 0; t < T; ++t) V::store(scores + r * score_stride + 16 * t, acc[r][t]);
  }
}

// out[r][0 .. 16 C) += weights . values over slots [first, last) of a block, by BF16 dot products of slot pairs.
//   weights: [R] rows of pairs; tiles: the block's V tiles; chunk_bytes: the wanted dimensions' offset in a unit.
template <class V, size_t R, size_t C>
FETTLE_INLINE void add_value_tiles_dot(const uint32_t* weights, size_t weight_stride, const std::byte* const* tiles,
                                       size_t chunk_bytes, size_t row_bytes, size_t first, size_t last, float* out,
                                       size_t out_stride) {
  typename V::F acc[R][C];
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) acc[r][c] = V::load(out + r * out_stride + 16 * c);
  }
  for (size_t pair = first / 2; 2 * pair < last; ++pair) {
    const std::byte* row = tiles[pair / 8] + pair % 8 * row_bytes + chunk_bytes;
    typename V::I value[C];
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) value[c] = V::load_int(row + 64 * c);
    if (2 * pair < first || 2 * pair + 2 > last) {  // half of the pair lies outside: its bytes may be anything
      const auto keep = V::set_int((2 * pair < first ? 0u : 0xFFFFu) | (2 * pair + 2 > last ? 0u : 0xFFFF0000u));
      FETTLE_UNROLL
      for (size_t c = 0; c < C; ++c) value[c] = V::and_int(value[c], keep);
    }
    FETTLE_UNROLL
    for (size_t r = 0; r < R; ++r) {
      const auto weight = V::set_int(weights[r * weight_stride + pair]);
      FETTLE_UNROLL
      for (size_t c = 0; c < C; ++c) acc[r][c] = V::dot_bf16(acc[r][c], weight, value[c]);
    }
  }
  FETTLE_UNROLL
  for (size_t r = 0; r < R; ++r) {
    FETTLE_UNROLL
    for (size_t c = 0; c < C; ++c) V::store(out + r * out_stride + 16 * c, acc[r][c]);
  }
}

}  // namespace fettle::kernels::detail
