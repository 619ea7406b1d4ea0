#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/attention.h"
#include "kernels/exp2.h"
#include "kernels/simd/target.h"

// Between the driver (attention.cpp: masks, work items, merging across items) and the per-level tile kernels.
namespace fettle::kernels::detail {

constexpr size_t kMaxKeyBlock = 128;
constexpr size_t kTileRows = 96;  // query rows per work item; with a block of 128 keys it fits 512 KiB of L2
// A block that does not start on a tile touches one tile more; the stride also spreads rows over cache sets.
constexpr size_t kBlockTiles = kMaxKeyBlock / kTileSlots + 1, kBlockSlots = kBlockTiles * kTileSlots;
constexpr size_t kScoreStride = kBlockSlots;

// Slots [begin, end) one token may see, before mask bits.
struct KeyRange {
  size_t begin = 0, end = 0;
};

// The state of the online softmax of some rows. out: [rows][padded value_dim], unnormalised.
struct RowStates {
  float* out = nullptr;
  float* reference = nullptr;  // [rows] reference maximum m
  float* sum = nullptr;        // [rows] l; 0 = saw no key, NaN = non-finite score
};

// One KV head, up to kTileRows query rows (row = token * group + head in group), slots [slot_begin, slot_end).
struct TileJob {
  const KvView* kv = nullptr;
  const AttnParams* params = nullptr;
  size_t head = 0;
  const float* q = nullptr;  // first token, first head of the group
  size_t q_stride = 0;       // floats between tokens
  size_t tokens = 0, group = 0;
  const KeyRange* ranges = nullptr;     // [tokens]
  const uint64_t* mask_bits = nullptr;  // [tokens][mask_words] or null
  size_t mask_words = 0, mask_begin = 0;
  bool sparse = false;  // only these blocks of column_slots slots
  std::span<const uint32_t> columns;
  size_t column_slots = 0;
  size_t slot_begin = 0, slot_end = 0;

  // Either the state is left in `partial`, or rows are finished into out and lse.
  RowStates partial;
  float* out = nullptr;
  size_t out_stride = 0;
  float* lse = nullptr;  // may be null
  size_t lse_stride = 0;
  const float* sinks = nullptr;  // [group] or null
  uint32_t* rescales = nullptr;  // [tokens][stats_stride] from the group's first head, or null
  float* reference = nullptr;
  float* sum = nullptr;
  size_t stats_stride = 0;

  size_t rows() const { return tokens * group; }
};

// Memory of one work item, carved by the driver.
struct TileScratch {
  float* q = nullptr;           // [rows][head_dim] f32, or BF16 pairs
  float* k = nullptr;           // [kBlockTiles][head_dim][16]
  float* v = nullptr;           // [padded value_dim / 16][kBlockSlots][16]
  float* scores = nullptr;      // [rows][kScoreStride]
  uint32_t* weights = nullptr;  // [rows][kScoreStride / 2] BF16 pairs
  RowStates state, running;
  uint32_t* rescales = nullptr;  // [rows]
};

using TileKernel = void (*)(const TileJob&, const TileScratch&, bool bf16_math);
using FoldKernel = void (*)(const TileJob&, std::span<RowStates> parts);
struct AttentionKernels {
  FoldKernel fold;
  TileKernel f32, bf16, i8;
  TileKernel bf16_dot;  // BF16 pages with BF16 dot products, or null
};

extern const AttentionKernels kAttentionScalar;
#if defined(__x86_64__)
extern const AttentionKernels kAttentionAvx2, kAttentionAvx512;
extern const TileKernel kAttentionAvx512Bf16Dot;  // the one kernel that level adds
#endif

// attention() with the kernels of a given level.
void attention_with(const AttentionKernels& kernels, std::span<const AttnSequence> sequences, const AttnParams& params,
                    MatView<const float> q, ThreadPool& pool, AttnScratch& scratch, MatView<float> out,
                    MatView<float> lse, const AttnStats* stats);

inline size_t padded16(size_t n) { return (n + 15) / 16 * 16; }

// Result of merging two online-softmax states over disjoint keys; weights are for their outputs.
struct MergedRow {
  float reference, sum, weight_a, weight_b;
};
inline MergedRow merge_rows(float ma, float la, float mb, float lb, float c) {
  if (lb == 0) return {ma, la, 1, 0};
  if (la == 0) return {mb, lb, 0, 1};
  const float m = std::max(ma, mb);
  const float wa = ma == m ? 1.0f : exp2_reference<5>((ma - m) * c);
  const float wb = mb == m ? 1.0f : exp2_reference<5>((mb - m) * c);
  return {m, std::fma(la, wa, lb * wb), wa, wb};
}

constexpr float kLog2e = 1.44269504088896340736f;
constexpr float kLn2 = 0.693147180559945309417f;

// Factor of scores in the exponent (base 2), after softcap if there is one.
inline float exponent_scale(const AttnParams& p) { return (p.softcap > 0 ? 1.0f : p.scale) * kLog2e; }

// A row's last step: adds the sink, gives the factors of the final output and the LSE.
struct FinishedRow {
  float scale;    // multiplies out before the division
  float divisor;  // 0: the row is all zeros
  float lse;
};
inline FinishedRow finish_row(float m, float l, float c, const float* sink) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  FinishedRow r{1.0f, l, -kInf};
  if (std::isnan(l)) return {1.0f, l, l};
  if (sink) {
    const float z = *sink * kLog2e;  // base-2 logit
    if (l == 0) return {0.0f, 1.0f, *sink};
    const float top = std::max(m * c, z);
    r.scale = m * c == top ? 1.0f : exp2_reference<5>(m * c - top);
    r.divisor = std::fma(l, r.scale, z == top ? 1.0f : exp2_reference<5>(z - top));
    r.lse = (top + std::log2(r.divisor)) * kLn2;
    return r;
  }
  if (l > 0) r.lse = (m * c + std::log2(l)) * kLn2;
  return r;
}

}  // namespace fettle::kernels::detail
