#pragma once

// The softmax step of one row and one key block. Include inside a target region.
#include "kernels/simd/exp2_inl.h"

namespace fettle::kernels::detail {

// Scores of tiles [first_tile, last_tile) of a block; slots are relative to the block.
struct SoftmaxRow {
  float* scores = nullptr;
  size_t first_tile = 0, last_tile = 0;
  size_t begin = 0, end = 0;               // visible slots, inside the tiles; none when begin >= end
  const uint64_t* mask_bits = nullptr;     // visibility of slots from mask_begin on, or null
  ptrdiff_t mask_begin = 0;                // relative to the block, may be negative
  const float* const* k_scales = nullptr;  // I8 pages: per tile of the block 16 scales, or null
  const float* const* v_scales = nullptr;
  float softcap = 0, softcap_scale = 0;
  float c = 0;          // scale * log2(e)
  float threshold = 0;  // lazy rescaling, log2 units
};

enum class RowStep { kNothing, kAdded, kFirst, kRescaled, kNonFinite };
struct SoftmaxResult {
  RowStep step = RowStep::kNothing;
  float factor = 1.0f;  // of the output so far, when kFirst or kRescaled
};

template <class V>
FETTLE_INLINE typename V::F round_to_bf16(typename V::F x) {
  const auto bits = V::bits(x);
  const auto odd = V::and_int(V::template shr<16>(bits), V::set_int(1));
  const auto rounded = V::add_int(V::add_int(bits, V::set_int(0x7FFF)), odd);
  return V::from_bits(V::and_int(rounded, V::set_int(0xFFFF0000u)));
}

template <class V>
inline void clear_scores(const SoftmaxRow& row) {
  for (size_t t = row.first_tile; t < row.last_tile; ++t) V::store(row.scores + 16 * t, V::zero());
}

// Raw scores to masked, scaled ones.
template <class V>
inline void mask_scores(const SoftmaxRow& row) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  float* s = row.scores;
  if (row.k_scales)
    for (size_t t = row.first_tile; t < row.last_tile; ++t)
      V::store(s + 16 * t, V::mul(V::load(s + 16 * t), V::load(row.k_scales[t])));
  if (row.softcap > 0)
    for (size_t t = row.first_tile; t < row.last_tile; ++t) {
      const auto bounded = simd::tanh_poly<V>(V::mul(V::load(s + 16 * t), V::set(row.softcap_scale)));
      V::store(s + 16 * t, V::mul(bounded, V::set(row.softcap)));
    }
  for (size_t j = 16 * row.first_tile; j < row.begin; ++j) s[j] = kHidden;
  for (size_t j = row.end; j < 16 * row.last_tile; ++j) s[j] = kHidden;
  if (!row.mask_bits) return;
  const ptrdiff_t from = std::max(row.mask_begin, static_cast<ptrdiff_t>(row.begin));
  for (ptrdiff_t j = from; j < static_cast<ptrdiff_t>(row.end); ++j) {
    const ptrdiff_t bit = j - row.mask_begin;
    if (!(row.mask_bits[bit / 64] >> (bit % 64) & 1)) s[j] = kHidden;
  }
}

// Turns the row's scores into weights relative to its reference m, and updates m and the sum l.
template <class V, int kDegree, bool kRound>
inline SoftmaxResult softmax_row(const SoftmaxRow& row, float& m, float& l) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  using F = typename V::F;
  float* s = row.scores;
  if (row.begin >= row.end) {
    clear_scores<V>(row);
    return {};
  }
  mask_scores<V>(row);
  F tops = V::set(-kInf);
  auto nans = V::no_mask();
  for (size_t t = row.first_tile; t < row.last_tile; ++t) {
    const F x = V::load(s + 16 * t);
    tops = V::max(x, tops);  // keeps tops where x is NaN
    nans = V::or_mask(nans, V::unordered(x));
  }
  const float top = V::reduce_max(tops);
  if (V::mask_bits(nans) != 0 || top == kInf || std::isnan(l)) {
    if (m == -kInf) m = 0;
    l = std::numeric_limits<float>::quiet_NaN();
    clear_scores<V>(row);
    return {RowStep::kNonFinite, 1.0f};
  }
  if (top == -kInf) {
    clear_scores<V>(row);
    return {};
  }
  SoftmaxResult result{RowStep::kAdded, 1.0f};
  if (top > m && !((m - top) * row.c >= -row.threshold)) {
    result.step = m == -kInf ? RowStep::kFirst : RowStep::kRescaled;
    result.factor = m == -kInf ? 0.0f : exp2_reference<kDegree>((m - top) * row.c);
    m = top;
  }
  const F c = V::set(row.c), offset = V::set(-(m * row.c));
  F sums = V::zero();
  for (size_t t = row.first_tile; t < row.last_tile; ++t) {
    const F p = simd::exp2_poly<V, kDegree>(V::fma(V::load(s + 16 * t), c, offset));
    sums = V::add(sums, p);
    F weight = p;
    if (row.v_scales) {  // scales of slots that are not live are arbitrary
      const F scaled = V::mul(p, V::load(row.v_scales[t]));
      weight = V::select(V::less(V::zero(), p), scaled, V::zero());
    }
    if constexpr (kRound) weight = round_to_bf16<V>(weight);
    V::store(s + 16 * t, weight);
  }
  l = std::fma(l, result.factor, V::reduce_add(sums));
  return result;
}

}  // namespace fettle::kernels::detail
