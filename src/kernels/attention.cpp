#include "kernels/attention.h"

#include <atomic>
#include <numeric>
#include <vector>

#include "base/aligned.h"
#include "base/cpu.h"
#include "kernels/attention_tile.h"

namespace fettle::kernels {
namespace {

using detail::KeyRange;
using detail::RowStates;
using detail::TileJob;
using detail::TileScratch;

// More items than this per thread keep all threads busy; fewer, and long items are split at segments.
constexpr size_t kItemsPerThread = 4;

struct Worker {
  AlignedBuffer<float> memory;
  std::atomic_flag busy;
};

// Parts of one job that was split at segments.
struct SplitJob {
  TileJob whole;
  size_t first_part, parts;
};

detail::AttentionKernels level_kernels() {
#if defined(__x86_64__)
  if (active_isa() >= Isa::kAvx512) {
    detail::AttentionKernels kernels = detail::kAttentionAvx512;
    if (active_isa() >= Isa::kAvx512Bf16) kernels.bf16_dot = detail::kAttentionAvx512Bf16Dot;
    return kernels;
  }
  if (active_isa() == Isa::kAvx2) return detail::kAttentionAvx2;
#endif
  return detail::kAttentionScalar;
}

// Visible slots of row i, before mask bits.
KeyRange visible_slots(const AttnSequence& s, const AttnParams& p, size_t i) {
  const size_t position = s.positions.empty() ? s.first_position + i : s.positions[i];
  // Slots whose position is at most `limit`.
  const auto slots_up_to = [&](size_t limit) -> size_t {
    if (!s.kv.positions) return std::min(s.kv.n_slots, limit + 1);
    return static_cast<size_t>(std::upper_bound(s.kv.positions, s.kv.positions + s.kv.n_slots, limit) - s.kv.positions);
  };
  KeyRange r{0, s.kv.n_slots};
  if (!s.mask_bits.empty())
    r.end = std::min(r.end, s.mask_begin + 64 * s.mask_words);
  else if (!s.key_limits.empty())
    r.end = std::min<size_t>(r.end, s.key_limits[i]);
  else if (p.causal)
    r.end = slots_up_to(position);
  if (p.window > 0 && position >= p.window) r.begin = slots_up_to(position - p.window);
  r.begin = std::max(r.begin, s.slot_begin);
  r.end = std::min(r.end, s.slot_end);
  return r.begin < r.end ? r : KeyRange{};
}

void check_shapes(const AttnSequence& s, const AttnParams& p, MatView<const float> q, MatView<float> out,
                  MatView<float> lse) {
  const KvView& kv = s.kv;
  FETTLE_CHECK(kv.heads > 0 && p.heads % kv.heads == 0 && p.scale > 0);
  FETTLE_CHECK_EQ(q.cols, p.heads * kv.layout.head_dim);
  FETTLE_CHECK_EQ(out.cols, p.heads * kv.layout.value_dim);
  FETTLE_CHECK(s.first_row + s.n_rows <= q.rows && s.first_row + s.n_rows <= out.rows);
  FETTLE_CHECK(!lse.data || (lse.cols == p.heads && s.first_row + s.n_rows <= lse.rows));
  FETTLE_CHECK(s.positions.empty() || s.positions.size() == s.n_rows);
  FETTLE_CHECK(s.key_limits.empty() || s.key_limits.size() == s.n_rows);
  FETTLE_CHECK(s.mask_bits.empty() || s.mask_bits.size() == s.n_rows * s.mask_words);
  FETTLE_CHECK(p.sinks.empty() || p.sinks.size() == p.heads);
  FETTLE_CHECK(p.key_block > 0 && p.key_block <= detail::kMaxKeyBlock);
  FETTLE_CHECK(p.segment % p.key_block == 0);
  FETTLE_CHECK(!s.blocks || (s.blocks->key_block > 0 && s.blocks->query_block > 0));
}

size_t scratch_floats(const PageLayout& layout) {
  const size_t rows = detail::kTileRows, values = detail::padded16(layout.value_dim);
  return rows * layout.head_dim + detail::kBlockSlots * (layout.head_dim + values) +
         rows * (detail::kScoreStride + detail::kScoreStride / 2) + 2 * rows * values + 5 * rows + 16 * 12;
}

TileScratch carve(std::span<float> memory, const PageLayout& layout, bool stats) {
  float* next = memory.data();
  const auto take = [&](size_t n) {
    float* p = next;
    next += detail::padded16(n);
    return p;
  };
  const size_t rows = detail::kTileRows, values = detail::padded16(layout.value_dim);
  TileScratch s;
  s.q = take(rows * layout.head_dim);
  s.k = take(detail::kBlockSlots * layout.head_dim);
  s.v = take(detail::kBlockSlots * values);
  s.scores = take(rows * detail::kScoreStride);
  s.weights = reinterpret_cast<uint32_t*>(take(rows * detail::kScoreStride / 2));
  for (RowStates* state : {&s.state, &s.running}) {
    state->out = take(rows * values);
    state->reference = take(rows);
    state->sum = take(rows);
  }
  uint32_t* rescales = reinterpret_cast<uint32_t*>(take(rows));
  s.rescales = stats ? rescales : nullptr;
  return s;
}

}  // namespace

struct AttnScratch::Impl {
  std::unique_ptr<Worker[]> workers;
  size_t n_workers = 0;
  AlignedBuffer<float> partial;
  std::vector<KeyRange> ranges;
  std::vector<TileJob> jobs;
  std::vector<size_t> order, costs;
  std::vector<SplitJob> splits;
  std::vector<RowStates> parts;

  void grow(size_t threads, size_t floats) {
    if (n_workers < threads) {
      workers = std::make_unique<Worker[]>(threads);
      n_workers = threads;
    }
    for (size_t i = 0; i < n_workers; ++i)
      if (workers[i].memory.size() < floats) workers[i].memory.resize(floats);
  }

  // Gives body the memory of a worker nobody else uses; there are as many as threads.
  template <class Body>
  void with_worker(const Body& body) {
    for (size_t i = 0;; i = (i + 1) % n_workers) {
      if (workers[i].busy.test_and_set(std::memory_order_acquire)) continue;
      body(workers[i].memory.span());
      workers[i].busy.clear(std::memory_order_release);
      return;
    }
  }

  void add_jobs(const AttnSequence& s, const AttnParams& p, std::span<const KeyRange> seq_ranges,
                MatView<const float> q, MatView<float> out, MatView<float> lse, const AttnStats* stats);
  void split_long_jobs(const AttnParams& p, size_t threads);
};

AttnScratch::AttnScratch() : impl_(std::make_unique<Impl>()) {}
AttnScratch::~AttnScratch() = default;
AttnScratch::AttnScratch(AttnScratch&&) noexcept = default;
AttnScratch& AttnScratch::operator=(AttnScratch&&) noexcept = default;

// One job per (KV head, tile of query tokens); all query heads of a KV head share its keys.
void AttnScratch::Impl::add_jobs(const AttnSequence& s, const AttnParams& p, std::span<const KeyRange> seq_ranges,
                                 MatView<const float> q, MatView<float> out, MatView<float> lse,
                                 const AttnStats* stats) {
  const size_t group = p.heads / s.kv.heads, part = std::min(group, detail::kTileRows);
  const size_t tile_tokens = detail::kTileRows / part;
  for (size_t first = 0; first < s.n_rows;) {
    size_t last = std::min(s.n_rows, first + tile_tokens);
    if (s.blocks) last = std::min(last, (first / s.blocks->query_block + 1) * s.blocks->query_block);
    for (size_t h = 0; h < s.kv.heads; ++h)
      for (size_t g = 0; g < group; g += part) {
        const size_t head = h * group + g, row = s.first_row + first;
        TileJob job;
        job.kv = &s.kv;
        job.params = &p;
        job.head = h;
        job.q = q.row(row) + head * s.kv.layout.head_dim;
        job.q_stride = q.stride;
        job.tokens = last - first;
        job.group = std::min(part, group - g);
        job.ranges = &seq_ranges[first];
        if (!s.mask_bits.empty()) job.mask_bits = &s.mask_bits[first * s.mask_words];
        job.mask_words = s.mask_words;
        job.mask_begin = s.mask_begin;
        if (s.blocks) {
          const size_t block = first / s.blocks->query_block;
          FETTLE_CHECK(block + 1 < s.blocks->row_begin.size());
          const size_t begin = s.blocks->row_begin[block], end = s.blocks->row_begin[block + 1];
          FETTLE_CHECK(begin <= end && end <= s.blocks->columns.size());
          job.sparse = true;
          job.columns = s.blocks->columns.subspan(begin, end - begin);
          job.column_slots = s.blocks->key_block;
        }
        job.slot_end = s.kv.n_slots;
        job.out = out.row(row) + head * s.kv.layout.value_dim;
        job.out_stride = out.stride;
        if (lse.data) job.lse = lse.row(row) + head;
        job.lse_stride = lse.stride;
        if (!p.sinks.empty()) job.sinks = &p.sinks[head];
        if (stats) {
          job.rescales = stats->rescales.empty() ? nullptr : &stats->rescales[row * p.heads + head];
          job.reference = stats->reference.empty() ? nullptr : &stats->reference[row * p.heads + head];
          job.sum = stats->sum.empty() ? nullptr : &stats->sum[row * p.heads + head];
          job.stats_stride = p.heads;
        }
        size_t cost = 0;
        for (size_t i = 0; i < job.tokens; ++i) cost += (job.ranges[i].end - job.ranges[i].begin) * job.group;
        jobs.push_back(job);
        costs.push_back(cost);
      }
    first = last;
  }
}

// Too few jobs for the threads: each segment of a job becomes a job of its own. Merging in order gives the bits of the
// unsplit job, so this choice may depend on the number of threads.
void AttnScratch::Impl::split_long_jobs(const AttnParams& p, size_t threads) {
  splits.clear();
  parts.clear();
  if (p.segment == 0 || threads == 1 || jobs.size() >= kItemsPerThread * threads) return;
  std::vector<TileJob> all;
  std::vector<size_t> all_costs, part_of;  // of each new job; kWhole for those that stay whole
  constexpr size_t kWhole = SIZE_MAX;
  size_t floats = 0;
  for (size_t j = 0; j < jobs.size(); ++j) {
    const TileJob& job = jobs[j];
    size_t first = SIZE_MAX, last = 0;
    for (size_t i = 0; i < job.tokens; ++i) {
      if (job.ranges[i].begin >= job.ranges[i].end) continue;
      first = std::min(first, job.ranges[i].begin / p.segment);
      last = std::max(last, (job.ranges[i].end + p.segment - 1) / p.segment);
    }
    if (first >= last || last - first < 2) {
      all.push_back(job);
      all_costs.push_back(costs[j]);
      part_of.push_back(kWhole);
      continue;
    }
    splits.push_back({job, parts.size(), last - first});
    for (size_t seg = first; seg < last; ++seg) {
      TileJob piece = job;
      piece.slot_begin = seg * p.segment;
      piece.slot_end = std::min(job.slot_end, (seg + 1) * p.segment);
      part_of.push_back(parts.size());
      parts.emplace_back();
      floats += job.rows() * (detail::padded16(job.kv->layout.value_dim) + 2);
      all.push_back(piece);
      all_costs.push_back(costs[j] / (last - first));
    }
  }
  partial.resize(floats + 16);
  float* next = partial.data();
  for (size_t j = 0; j < all.size(); ++j) {
    if (part_of[j] == kWhole) continue;
    const size_t rows = all[j].rows();
    RowStates& state = parts[part_of[j]];
    state.out = next;
    state.reference = next + rows * detail::padded16(all[j].kv->layout.value_dim);
    state.sum = state.reference + rows;
    next = state.sum + rows;
    all[j].partial = state;
  }
  jobs = std::move(all);
  costs = std::move(all_costs);
}

void detail::attention_with(const AttentionKernels& kernels, std::span<const AttnSequence> sequences,
                            const AttnParams& params, MatView<const float> q, ThreadPool& pool, AttnScratch& scratch,
                            MatView<float> out, MatView<float> lse, const AttnStats* stats) {
  AttnScratch::Impl& s = scratch.impl();
  size_t rows = 0, floats = 0;
  for (const AttnSequence& seq : sequences) {
    check_shapes(seq, params, q, out, lse);
    rows += seq.n_rows;
    floats = std::max(floats, scratch_floats(seq.kv.layout));
  }
  s.ranges.resize(rows);
  s.jobs.clear();
  s.costs.clear();
  size_t at = 0;
  for (const AttnSequence& seq : sequences) {
    for (size_t i = 0; i < seq.n_rows; ++i) s.ranges[at + i] = visible_slots(seq, params, i);
    s.add_jobs(seq, params, {s.ranges.data() + at, seq.n_rows}, q, out, lse, stats);
    at += seq.n_rows;
  }
  const size_t threads = static_cast<size_t>(pool.size());
  if (stats)
    s.splits.clear();
  else
    s.split_long_jobs(params, threads);
  s.grow(threads, floats);

  // Longest first: causal tiles differ a lot, and a long one at the end would leave threads idle.
  s.order.resize(s.jobs.size());
  std::iota(s.order.begin(), s.order.end(), size_t{0});
  std::stable_sort(s.order.begin(), s.order.end(), [&](size_t a, size_t b) { return s.costs[a] > s.costs[b]; });

  pool.parallel_for(s.jobs.size(), [&](size_t i) {
    const TileJob& job = s.jobs[s.order[i]];
    const DType dtype = job.kv->layout.dtype;
    const bool dot = dtype == DType::kBF16 && kernels.bf16_dot && params.math != AttnMath::kF32;
    const detail::TileKernel kernel = dot                     ? kernels.bf16_dot
                                      : dtype == DType::kF32  ? kernels.f32
                                      : dtype == DType::kBF16 ? kernels.bf16
                                                              : kernels.i8;
    s.with_worker([&](std::span<float> memory) {
      kernel(job, carve(memory, job.kv->layout, stats != nullptr), dot || params.math == AttnMath::kBf16);
    });
  });
  pool.parallel_for(s.splits.size(), [&](size_t i) {
    const SplitJob& split = s.splits[i];
    kernels.fold(split.whole, {s.parts.data() + split.first_part, split.parts});
  });
}

void attention(std::span<const AttnSequence> sequences, const AttnParams& params, MatView<const float> q,
               ThreadPool& pool, AttnScratch& scratch, MatView<float> out, MatView<float> lse, const AttnStats* stats) {
  detail::attention_with(level_kernels(), sequences, params, q, pool, scratch, out, lse, stats);
}

void combine_attention(size_t parts, std::span<const float> partial_out, std::span<const float> partial_lse,
                       size_t heads, MatView<float> out, MatView<float> lse) {
  const size_t rows = out.rows, dim = out.cols / heads;
  FETTLE_CHECK_EQ(partial_out.size(), parts * rows * out.cols);
  FETTLE_CHECK_EQ(partial_lse.size(), parts * rows * heads);
  for (size_t r = 0; r < rows; ++r)
    for (size_t h = 0; h < heads; ++h) {
      const auto part_lse = [&](size_t i) { return partial_lse[(i * rows + r) * heads + h]; };
      float top = -std::numeric_limits<float>::infinity();
      for (size_t i = 0; i < parts; ++i)
        if (!std::isnan(top) && !(part_lse(i) <= top)) top = part_lse(i);  // a NaN stays
      if (std::isnan(top)) {
        std::fill_n(out.row(r) + h * dim, dim, top);
        lse.row(r)[h] = top;
        continue;
      }
      float* y = out.row(r) + h * dim;
      std::fill_n(y, dim, 0.0f);
      float total = 0;
      if (top > -std::numeric_limits<float>::infinity())
        for (size_t i = 0; i < parts; ++i) total += std::exp(part_lse(i) - top);
      for (size_t i = 0; i < parts && total > 0; ++i) {
        const float weight = std::exp(part_lse(i) - top) / total;
        if (weight == 0) continue;
        const float* x = &partial_out[(i * rows + r) * out.cols + h * dim];
        for (size_t d = 0; d < dim; ++d) y[d] += weight * x[d];
      }
      lse.row(r)[h] = total > 0 ? top + std::log(total) : top;
    }
}

}  // namespace fettle::kernels
