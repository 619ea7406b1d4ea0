#pragma once

// The tile kernel of attention. Include inside a target region, after attention_tile.h and the vector type.
#include "kernels/attention_formats_inl.h"
#include "kernels/attention_micro_inl.h"
#include "kernels/attention_softmax_inl.h"

namespace fettle::kernels::detail {

// Up to this many rows that see the same slots read K and V straight from the pages (decode); more rows share one
// gathered f32 copy of the block.
constexpr size_t kDirectRows = 16;

template <class V, class Page>
class TileRunner {
 public:
  TileRunner(const TileJob& job, const TileScratch& scratch, bool bf16_math)
      : job_(job),
        kv_(*job.kv),
        s_(scratch),
        bf16_math_(bf16_math),
        rows_(job.rows()),
        dims_(kv_.layout.head_dim),
        pairs_((dims_ + 1) / 2),
        chunks_((kv_.layout.value_dim + 15) / 16),
        out_stride_(16 * chunks_),
        c_(exponent_scale(*job.params)) {}

  void run() {
    load_queries();
    size_t first = SIZE_MAX, last = 0;
    uniform_ = job_.mask_bits == nullptr;
    for (size_t i = 0; i < job_.tokens; ++i) {
      const KeyRange r = job_.ranges[i];
      if (r.begin < r.end) {
        first = std::min(first, r.begin);
        last = std::max(last, r.end);
      }
      uniform_ = uniform_ && r.begin == job_.ranges[0].begin && r.end == job_.ranges[0].end;
    }
    first = std::max(first, job_.slot_begin);
    last = std::min(last, job_.slot_end);
    if (s_.rescales) std::fill_n(s_.rescales, rows_, 0u);
    reset(running_);
    bool merged = false;
    const size_t segment = job_.params->segment ? job_.params->segment : SIZE_MAX;
    for (size_t begin = first < last ? first / segment * segment : SIZE_MAX; begin < last;) {
      const size_t end = segment == SIZE_MAX ? last : std::min(last, begin + segment);
      reset(state_);
      const size_t step = job_.params->key_block, first_tile = first / kTileSlots * kTileSlots;
      for (size_t b = std::max(begin, first / step * step); b < end; b += step)
        run_pieces(std::max(b, first_tile), std::min(b + step, end));
      if (merged)
        merge();
      else
        std::swap(state_, running_);
      merged = true;
      if (segment == SIZE_MAX) break;
      begin += segment;
    }
    if (job_.partial.out)
      leave_partial();
    else
      finish();
  }

 private:
  // q rows packed one after the other, rounded when products are BF16.
  void load_queries() {
    for (size_t r = 0; r < rows_; ++r) {
      const float* from = job_.q + r / job_.group * job_.q_stride + r % job_.group * dims_;
      if constexpr (Page::kDot) {
        pack_query(from, reinterpret_cast<uint32_t*>(s_.q) + r * pairs_);
        continue;
      }
      float* to = s_.q + r * dims_;
      if (!bf16_math_) {
        std::memcpy(to, from, dims_ * sizeof(float));
        continue;
      }
      for (size_t d = 0; d < dims_; ++d) to[d] = std::bit_cast<float>(static_cast<uint32_t>(bf16_bits(from[d])) << 16);
    }
  }

  static uint16_t bf16_bits(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    return static_cast<uint16_t>((x == x ? bits + 0x7FFF + (bits >> 16 & 1) : bits | 0x400000) >> 16);
  }
  // Dimensions 2 i and 2 i + 1 in the low and high half; a missing last one is 0.
  void pack_query(const float* from, uint32_t* to) const {
    for (size_t i = 0; i < pairs_; ++i) {
      const uint32_t second = 2 * i + 1 < dims_ ? bf16_bits(from[2 * i + 1]) : 0;
      to[i] = bf16_bits(from[2 * i]) | second << 16;
    }
  }

  void reset(RowStates& state) {
    std::fill_n(state.reference, rows_, -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, rows_, 0.0f);
    std::fill_n(state.out, rows_ * out_stride_, 0.0f);
  }

  // Runs of kept blocks inside the key block; one run without a block list.
  void run_pieces(size_t begin, size_t end) {
    if (begin >= end) return;
    if (!job_.sparse) return run_block(begin, end);
    const size_t width = job_.column_slots;
    const auto column = [&](size_t slot) { return static_cast<uint32_t>(slot / width); };
    const auto kept = [&](size_t slot) {
      return std::binary_search(job_.columns.begin(), job_.columns.end(), column(slot));
    };
    for (size_t at = begin; at < end;) {
      if (!kept(at)) {
        at = std::min(end, (at / width + 1) * width);
        continue;
      }
      size_t stop = at;
      while (stop < end && kept(stop)) stop = std::min(end, (stop / width + 1) * width);
      run_block(at, stop);
      at = stop;
    }
  }

  // Visible slots of a token inside the block, relative to the block's first tile.
  KeyRange in_block(size_t token) const {
    const KeyRange r = job_.ranges[token];
    const size_t begin = std::clamp(r.begin, piece_begin_, block_end_),
                 end = std::clamp(r.end, piece_begin_, block_end_);
    return begin < end ? KeyRange{begin - block_begin_, end - block_begin_} : KeyRange{0, 0};
  }
  // Union of the visible slots of rows [row, row + n).
  KeyRange in_block(size_t row, size_t n) const {
    KeyRange all{SIZE_MAX, 0};
    for (size_t token = row / job_.group; token <= (row + n - 1) / job_.group; ++token) {
      const KeyRange r = in_block(token);
      if (r.begin >= r.end) continue;
      all.begin = std::min(all.begin, r.begin);
      all.end = std::max(all.end, r.end);
    }
    return all.begin < all.end ? all : KeyRange{0, 0};
  }

  void run_block(size_t begin, size_t end) {
    piece_begin_ = begin;
    block_begin_ = begin / kTileSlots * kTileSlots;
    block_end_ = end;
    union_ = in_block(0, rows_);
    if (union_.begin >= union_.end) return;
    first_tile_ = union_.begin / kTileSlots;
    last_tile_ = (union_.end + kTileSlots - 1) / kTileSlots;
    locate_tiles();
    if constexpr (Page::kDot)
      dot_block();
    else if (uniform_ && rows_ <= kDirectRows)
      direct_block();
    else
      gathered_block();
  }

  void locate_tiles() {
    const PageLayout& layout = kv_.layout;
    for (size_t t = first_tile_; t < last_tile_; ++t) {
      const size_t slot = block_begin_ + t * kTileSlots, page = slot / layout.slots, in_page = slot % layout.slots;
      const std::byte* head = kv_.head(page, job_.head);
      k_tiles_[t] = head + in_page / kTileSlots * layout.k_tile_bytes();
      v_tiles_[t] = head + layout.v_offset() + in_page / kTileSlots * layout.v_tile_bytes();
      if (Page::kUnit == 4) {
        k_scales_[t] = reinterpret_cast<const float*>(head + layout.scale_offset()) + in_page;
        v_scales_[t] = k_scales_[t] + layout.slots;
      }
    }
  }

  void softmax(size_t row, KeyRange tiles) {
    const size_t token = row / job_.group;
    const KeyRange visible = in_block(token);
    SoftmaxRow r;
    r.scores = s_.scores + row * kScoreStride;
    r.first_tile = tiles.begin;
    r.last_tile = tiles.end;
    r.begin = visible.begin;
    r.end = visible.end;
    if (job_.mask_bits) {
      r.mask_bits = job_.mask_bits + token * job_.mask_words;
      r.mask_begin = static_cast<ptrdiff_t>(job_.mask_begin) - static_cast<ptrdiff_t>(block_begin_);
    }
    if (Page::kUnit == 4) {
      r.k_scales = k_scales_.data();
      r.v_scales = v_scales_.data();
    }
    r.softcap = job_.params->softcap;
    r.softcap_scale = r.softcap > 0 ? job_.params->scale / r.softcap : 0;
    r.c = c_;
    r.threshold = job_.params->rescale_threshold;
    float &m = state_.reference[row], &l = state_.sum[row];
    const bool empty_before = m == -std::numeric_limits<float>::infinity();
    const SoftmaxResult result = step_row(r, m, l);
    if (result.factor != 1.0f && result.step == RowStep::kRescaled) {
      const auto factor = V::set(result.factor);
      float* out = state_.out + row * out_stride_;
      for (size_t c = 0; c < chunks_; ++c) V::store(out + 16 * c, V::mul(V::load(out + 16 * c), factor));
    }
    // By the published count an empty state is rescaled (by 0) at every block after the first.
    if (s_.rescales && (empty_before || result.factor < 1.0f) && piece_begin_ >= job_.params->key_block)
      ++s_.rescales[row];
    if constexpr (Page::kDot)
      for (size_t t = tiles.begin; t < tiles.end; ++t)
        V::store_bf16(s_.weights + row * (kScoreStride / 2) + 8 * t, V::load(r.scores + 16 * t));
  }
  // BF16 dot products round the weights themselves.
  SoftmaxResult step_row(const SoftmaxRow& r, float& m, float& l) const {
    if constexpr (Page::kDot) return softmax_row<V, 3, false>(r, m, l);
    return bf16_math_ ? softmax_row<V, 3, true>(r, m, l) : softmax_row<V, 5, false>(r, m, l);
  }

  // Vectors beside each other for R rows: enough independent sums to hide the latency of an FMA.
  template <size_t R>
  static constexpr size_t beside() {
    return std::clamp<size_t>(V::kDirectSums / R, 1, 4);
  }

  // Few rows, same slots: every page byte is read once and converted in registers.
  void direct_block() {
    constexpr size_t kRows = V::kDirectRows;
    for_row_groups<kRows>(
        rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
          constexpr size_t T = beside<R>();
          size_t t = first_tile_;
          for (; t + T <= last_tile_; t += T) direct_scores<R, T>(row, t);
          for (; t < last_tile_; ++t) direct_scores<R, 1>(row, t);
        });
    for (size_t row = 0; row < rows_; ++row) softmax(row, {first_tile_, last_tile_});
    const size_t row_bytes = kv_.layout.value_dim * 4;
    for (size_t t = first_tile_; t < last_tile_; ++t) {
      const size_t first = std::max(union_.begin, 16 * t) - 16 * t, last = std::min(union_.end, 16 * t + 16) - 16 * t;
      for_row_groups<kRows>(
          rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
            constexpr size_t C = beside<R>();
            size_t c = 0;
            for (; c + C <= chunks_; c += C) direct_values<R, C>(row, t, c, row_bytes, first, last);
            for (; c < chunks_; ++c) direct_values<R, 1>(row, t, c, row_bytes, first, last);
          });
    }
  }
  template <size_t R, size_t T>
  void direct_scores(size_t row, size_t t) {
    score_tiles<V, Page, R, T>(s_.q + row * dims_, dims_, &k_tiles_[t], dims_, s_.scores + row * kScoreStride + 16 * t,
                               kScoreStride);
  }
  template <size_t R, size_t C>
  void direct_values(size_t row, size_t t, size_t c, size_t row_bytes, size_t first, size_t last) {
    add_value_tile<V, Page, R, C>(s_.scores + row * kScoreStride + 16 * t, kScoreStride, v_tiles_[t] + 64 * c,
                                  row_bytes, first, last, state_.out + row * out_stride_ + 16 * c, out_stride_);
  }

  // BF16 dot products read pages as they are, for any number of rows.
  void dot_block() {
    constexpr size_t kRows = V::kRows, kColumns = V::kColumns;
    const uint32_t* q = reinterpret_cast<const uint32_t*>(s_.q);
    std::array<KeyRange, kTileRows / kRows + 1> group_ranges;
    for (size_t row = 0; row < rows_; row += kRows)
      group_ranges[row / kRows] = in_block(row, std::min(kRows, rows_ - row));
    for (size_t t = first_tile_; t < last_tile_; t += kColumns) {
      const size_t n = std::min(kColumns, last_tile_ - t);
      for_row_groups<kRows>(
          rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
            const KeyRange seen = group_ranges[row / kRows];
            if (seen.begin >= 16 * (t + n) || seen.end <= 16 * t) return;
            const auto scores = [&]<size_t T>(size_t tile) __attribute__((always_inline)) {
              score_tiles_dot<V, R, T>(q + row * pairs_, pairs_, &k_tiles_[tile], pairs_,
                                       s_.scores + row * kScoreStride + 16 * tile, kScoreStride);
            };
            if (n == kColumns) return scores.template operator()<kColumns>(t);
            for (size_t i = 0; i < n; ++i) scores.template operator()<1>(t + i);
          });
    }
    for_row_groups<kRows>(
        rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
          const KeyRange seen = group_ranges[row / kRows];
          if (seen.begin >= seen.end) return;
          for (size_t i = 0; i < R; ++i) softmax(row + i, {seen.begin / 16, (seen.end + 15) / 16});
        });
    if (!uniform_ && !gather_values<false>()) {
      gather_values<true>();
      return add_values_one_by_one();
    }
    // One pass over V per step of rows: a decode step goes tile by tile, so that pages stream from memory in order;
    // with many rows the block is in cache and outputs stay in registers over all its tiles.
    const size_t step = rows_ <= kDirectRows ? 1 : last_tile_ - first_tile_;
    for (size_t t = first_tile_; t < last_tile_; t += step)
      for (size_t c = 0; c < chunks_; c += kColumns) {
        const size_t n = std::min(kColumns, chunks_ - c);
        for_row_groups<kRows>(
            rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
              const KeyRange seen = group_ranges[row / kRows];
              const size_t first = std::max(seen.begin, 16 * t), last = std::min(seen.end, 16 * (t + step));
              if (first >= last) return;
              const auto values = [&]<size_t C>(size_t chunk) __attribute__((always_inline)) {
                add_value_tiles_dot<V, R, C>(s_.weights + row * (kScoreStride / 2), kScoreStride / 2, v_tiles_.data(),
                                             64 * chunk, kv_.layout.value_dim * 4, first, last,
                                             state_.out + row * out_stride_ + 16 * chunk, out_stride_);
              };
              if (n == kColumns) return values.template operator()<kColumns>(c);
              for (size_t i = 0; i < n; ++i) values.template operator()<1>(c + i);
            });
      }
  }

  // Many rows: K and V of the block as f32, then register-blocked products over groups of 6 rows.
  void gathered_block() {
    constexpr size_t kRows = V::kRows, kColumns = V::kColumns;
    gather_keys();
    const bool finite = gather_values<true>();
    std::array<KeyRange, kTileRows / kRows + 1> group_ranges;
    for (size_t row = 0; row < rows_; row += kRows)
      group_ranges[row / kRows] = in_block(row, std::min(kRows, rows_ - row));
    for (size_t t = first_tile_; t < last_tile_; t += kColumns) {
      const size_t n = std::min(kColumns, last_tile_ - t);
      for_row_groups<kRows>(
          rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
            const KeyRange seen = group_ranges[row / kRows];
            if (seen.begin >= 16 * (t + n) || seen.end <= 16 * t) return;
            if (n == kColumns) return gathered_scores<R, kColumns>(row, t);
            for (size_t i = 0; i < n; ++i) gathered_scores<R, 1>(row, t + i);
          });
    }
    for_row_groups<kRows>(
        rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
          const KeyRange seen = group_ranges[row / kRows];
          if (seen.begin >= seen.end) return;
          for (size_t i = 0; i < R; ++i) softmax(row + i, {seen.begin / 16, (seen.end + 15) / 16});
        });
    if (!finite) return add_values_one_by_one();
    for (size_t c = 0; c < chunks_; c += kColumns) {
      const size_t n = std::min(kColumns, chunks_ - c);
      for_row_groups<kRows>(
          rows_, [&]<size_t R>(size_t row) __attribute__((always_inline)) {
            const KeyRange seen = group_ranges[row / kRows];
            if (seen.begin >= seen.end) return;
            if (n == kColumns) return gathered_values<R, kColumns>(row, c, seen);
            for (size_t i = 0; i < n; ++i) gathered_values<R, 1>(row, c + i, seen);
          });
    }
  }
  template <size_t R, size_t T>
  void gathered_scores(size_t row, size_t t) {
    score_tiles<V, PageF32<V>, R, T>(s_.q + row * dims_, dims_, &f32_tiles_[t], dims_,
                                     s_.scores + row * kScoreStride + 16 * t, kScoreStride);
  }
  template <size_t R, size_t C>
  void gathered_values(size_t row, size_t c, KeyRange seen) {
    add_value_block<V, R, C>(s_.scores + row * kScoreStride, kScoreStride, s_.v + c * kBlockSlots * 16, seen.begin,
                             seen.end, state_.out + row * out_stride_ + 16 * c, out_stride_);
  }

  void gather_keys() {
    for (size_t t = first_tile_; t < last_tile_; ++t) {
      if constexpr (Page::kUnit == 1) {
        f32_tiles_[t] = k_tiles_[t];
      } else {
        float* to = s_.k + t * dims_ * 16;
        f32_tiles_[t] = reinterpret_cast<const std::byte*>(to);
        for (size_t d = 0; d < dims_; d += Page::kUnit) {
          const auto raw = Page::load(k_tiles_[t] + d / Page::kUnit * 64);
          unrolled<Page::kUnit>([&]<size_t kIndex>() __attribute__((always_inline)) {
            if (d + kIndex < dims_) V::store(to + (d + kIndex) * 16, Page::template get<kIndex>(raw));
          });
        }
      }
    }
  }

  // False when a value of the visible slots is not finite: then hidden slots must be skipped one by one, because
  // 0 * NaN is NaN.
  template <bool kStore>
  bool gather_values() {
    const size_t row_bytes = kv_.layout.value_dim * 4;
    // Lanes past the last dimension hold whatever follows in the page.
    alignas(64) uint32_t lanes[16];
    for (size_t i = 0; i < 16; ++i) lanes[i] = 16 * (chunks_ - 1) + i < kv_.layout.value_dim ? 0xFFFFFFFFu : 0;
    const auto keep_last = V::load_int(lanes), keep_all = V::set_int(0xFFFFFFFFu);
    auto probe = V::zero();
    for (size_t t = first_tile_; t < last_tile_; ++t) {
      const size_t first = std::max(union_.begin, 16 * t) - 16 * t, last = std::min(union_.end, 16 * t + 16) - 16 * t;
      for (size_t unit = first / Page::kUnit; unit * Page::kUnit < last; ++unit)
        for (size_t c = 0; c < chunks_; ++c) {
          const auto raw = Page::load(v_tiles_[t] + unit * row_bytes + 64 * c);
          unrolled<Page::kUnit>([&]<size_t kIndex>() __attribute__((always_inline)) {
            const auto value = Page::template get<kIndex>(raw);
            const size_t slot = unit * Page::kUnit + kIndex;
            const auto checked = V::from_bits(V::and_int(V::bits(value), c + 1 == chunks_ ? keep_last : keep_all));
            if (slot >= first && slot < last) probe = V::fma(checked, V::zero(), probe);
            if constexpr (kStore) V::store(s_.v + (c * kBlockSlots + 16 * t + slot) * 16, value);
          });
        }
    }
    return V::mask_bits(V::unordered(probe)) == 0;
  }

  void add_values_one_by_one() {
    for (size_t row = 0; row < rows_; ++row) {
      const KeyRange visible = in_block(row / job_.group);
      const float* weights = s_.scores + row * kScoreStride;
      for (size_t slot = visible.begin; slot < visible.end; ++slot) {
        if (weights[slot] == 0) continue;
        for (size_t c = 0; c < chunks_; ++c) {
          float* out = state_.out + row * out_stride_ + 16 * c;
          V::store(out, V::fma(V::set(weights[slot]), V::load(s_.v + (c * kBlockSlots + slot) * 16), V::load(out)));
        }
      }
    }
  }

  void merge() {
    for (size_t row = 0; row < rows_; ++row) {
      float &m = running_.reference[row], &l = running_.sum[row];
      const MergedRow merged = merge_rows(m, l, state_.reference[row], state_.sum[row], c_);
      m = merged.reference;
      l = merged.sum;
      if (merged.weight_b == 0 && merged.weight_a == 1) continue;
      const auto wa = V::set(merged.weight_a), wb = V::set(merged.weight_b);
      float* a = running_.out + row * out_stride_;
      const float* b = state_.out + row * out_stride_;
      for (size_t c = 0; c < chunks_; ++c)
        V::store(a + 16 * c, V::fma(V::load(a + 16 * c), wa, V::mul(V::load(b + 16 * c), wb)));
    }
  }

  // Finishes the job from the states of its segments, in order; parts[0] is overwritten.
 public:
  void fold(std::span<RowStates> parts) {
    running_ = parts[0];
    for (const RowStates& part : parts.subspan(1)) {
      state_ = part;
      merge();
    }
    finish();
  }

 private:
  void leave_partial() {
    std::memcpy(job_.partial.reference, running_.reference, rows_ * sizeof(float));
    std::memcpy(job_.partial.sum, running_.sum, rows_ * sizeof(float));
    std::memcpy(job_.partial.out, running_.out, rows_ * out_stride_ * sizeof(float));
  }

  void finish() {
    const size_t value_dim = kv_.layout.value_dim;
    for (size_t row = 0; row < rows_; ++row) {
      const size_t token = row / job_.group, g = row % job_.group;
      const FinishedRow f =
          finish_row(running_.reference[row], running_.sum[row], c_, job_.sinks ? job_.sinks + g : nullptr);
      if (job_.lse) job_.lse[token * job_.lse_stride + g] = f.lse;
      if (s_.rescales) job_.rescales[token * job_.stats_stride + g] = s_.rescales[row];
      if (job_.reference) job_.reference[token * job_.stats_stride + g] = running_.reference[row];
      if (job_.sum) job_.sum[token * job_.stats_stride + g] = running_.sum[row];
      const float* from = running_.out + row * out_stride_;
      float* to = job_.out + token * job_.out_stride + g * value_dim;
      const auto scale = V::set(f.scale), divisor = V::set(f.divisor);
      alignas(64) float tail[16];
      for (size_t c = 0; c < chunks_; ++c) {
        auto y = V::zero();
        if (std::isnan(f.divisor))
          y = divisor;
        else if (f.divisor > 0)
          y = V::div(V::mul(V::load(from + 16 * c), scale), divisor);
        const size_t n = std::min<size_t>(16, value_dim - 16 * c);
        if (n == 16) {
          V::store(to + 16 * c, y);
        } else {
          V::store(tail, y);
          std::memcpy(to + 16 * c, tail, n * sizeof(float));
        }
      }
    }
  }

  const TileJob& job_;
  const KvView& kv_;
  const TileScratch s_;
  const bool bf16_math_;
  const size_t rows_, dims_, pairs_, chunks_, out_stride_;
  const float c_;
  bool uniform_ = false;
  RowStates state_ = s_.state, running_ = s_.running;
  // The key block at hand: slots [piece_begin_, block_end_), tiles counted from block_begin_.
  size_t piece_begin_ = 0, block_begin_ = 0, block_end_ = 0, first_tile_ = 0, last_tile_ = 0;
  KeyRange union_;
  std::array<const std::byte*, kBlockTiles> k_tiles_{}, v_tiles_{}, f32_tiles_{};
  std::array<const float*, kBlockTiles> k_scales_{}, v_scales_{};
};

template <class V, class Page>
void attend_tile(const TileJob& job, const TileScratch& scratch, bool bf16_math) {
  TileRunner<V, Page>(job, scratch, bf16_math).run();
}

template <class V>
void fold_tile(const TileJob& job, std::span<RowStates> parts) {
  TileRunner<V, PageF32<V>>(job, TileScratch{}, false).fold(parts);
}

}  // namespace fettle::kernels::detail
