#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/thread_pool.h"
#include "kernels/kv_page.h"
#include "tensor/tensor.h"

// Exact attention over paged K and V: tiled online softmax with cheap exponentials and lazy rescaling
// (FlashAttention-4, arXiv 2603.05451; numeric contract and layouts in docs/attention.md).
//
// A row is one query head of one token; its result depends on that row and its visible keys only: equal bits for any
// batch, chunking, page size and number of threads, and the same whether it is computed in a prefill or a decode step.
namespace fettle::kernels {

// K and V of one (sequence, layer): all KV heads. Slot s lies in pages[s / layout.slots].
struct KvView {
  const std::byte* const* pages = nullptr;  // null entries: released pages, which no row may see
  size_t n_slots = 0;                       // live slots; bytes of later slots are never used
  const uint32_t* positions = nullptr;      // [n_slots] strictly increasing, or null: position = slot
  PageLayout layout;
  size_t heads = 0;        // KV heads
  size_t lane_offset = 0;  // bytes from the page start to the first head of this layer
  size_t head_stride = 0;  // bytes from one head to the next

  const std::byte* head(size_t page, size_t h) const { return pages[page] + lane_offset + h * head_stride; }
};

// Kept key blocks per query block, ascending (compressed sparse rows). Everything else is masked, whatever the rest of
// the mask says.
struct BlockList {
  size_t query_block = 128;             // query rows of the sequence per entry of row_begin
  size_t key_block = 128;               // slots
  std::span<const uint32_t> row_begin;  // [query blocks + 1]
  std::span<const uint32_t> columns;    // key block indices
};

// One run of query tokens of one sequence: rows [first_row, first_row + n_rows) of q and out.
struct AttnSequence {
  KvView kv;
  size_t first_row = 0, n_rows = 0;
  uint32_t first_position = 0;           // of the first row; the rest follow, unless `positions` says otherwise
  std::span<const uint32_t> positions;   // empty, or [n_rows]
  std::span<const uint32_t> key_limits;  // empty, or [n_rows]: row i sees slots < key_limits[i] (replaces causal)
  // Draft trees and other irregular masks: bit b of word w of row i (mask_bits[i * mask_words + w]) makes slot
  // mask_begin
  // + 64 w + b visible; slots before mask_begin are the context, visible to all rows, slots after the last word hidden.
  // Replaces causal.
  std::span<const uint64_t> mask_bits;
  size_t mask_words = 1;
  size_t mask_begin = 0;
  const BlockList* blocks = nullptr;
  size_t slot_begin = 0;  // only slots in [slot_begin, slot_end) are attended: partial results for a later merge
  size_t slot_end = SIZE_MAX;
};

enum class AttnMath : uint8_t {
  kAuto,  // kBf16 for BF16 pages when the active level has BF16 dot products, else kF32
  kF32,   // f32 products and sums, 2^x of degree 5
  kBf16,  // q and softmax weights rounded to BF16, sums f32, 2^x of degree 3
};

struct AttnParams {
  size_t heads = 0;              // query heads; a multiple of the KV heads; head h reads KV head h / (heads / kv.heads)
  float scale = 1.0f;            // of the scores, usually 1 / sqrt(head_dim); > 0
  float softcap = 0;             // > 0: scores become softcap * tanh(score * scale / softcap)
  bool causal = true;            // key position <= query position
  uint32_t window = 0;           // > 0: query position - key position < window
  std::span<const float> sinks;  // empty, or [heads]: a logit that takes part in the sum only
  AttnMath math = AttnMath::kAuto;
  float rescale_threshold = 8;  // log2 units: smaller growth of the row maximum keeps the old reference; 0 = never keep
  size_t key_block = 128;       // slots per online-softmax step, at most 128; fastest as a multiple of 16
  size_t segment = 512;         // slots per independently computed part, merged in order; multiple of key_block;
                                // 0 = one part whatever the length
};

// What the online softmax did, per row = token * heads + head; all spans [rows * heads] or empty.
struct AttnStats {
  std::span<uint32_t> rescales;  // blocks after the first where the accumulator was rescaled
  std::span<float> reference;    // final reference maximum, score units before scaling
  std::span<float> sum;          // final sum of exponentials relative to it
};

// Working memory, reusable across calls; grows to what the shapes need. One call at a time.
class AttnScratch {
 public:
  AttnScratch();
  ~AttnScratch();
  AttnScratch(AttnScratch&&) noexcept;
  AttnScratch& operator=(AttnScratch&&) noexcept;

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// q: [rows, heads * head_dim] f32, out: [rows, heads * value_dim] f32, lse (optional, data null = none): [rows, heads]
// natural-log sum of exponentials including sinks. A row that sees no key gives out 0, lse -inf (with a sink: the
// sink). A NaN or +inf score gives a NaN row; slots a row does not see never influence it, whatever they hold. Throws
// kInternal when shapes disagree.
void attention(std::span<const AttnSequence> sequences, const AttnParams& params, MatView<const float> q,
               ThreadPool& pool, AttnScratch& scratch, MatView<float> out, MatView<float> lse = {},
               const AttnStats* stats = nullptr);

// Merges partial results over disjoint key sets: LSE = log sum exp(lse_i), out = sum exp(lse_i - LSE) out_i. A part
// with lse -inf has weight 0. partial_out: n parts of [rows, heads * value_dim] one after the other, partial_lse
// likewise [rows, heads]; out and lse may not alias them.
void combine_attention(size_t parts, std::span<const float> partial_out, std::span<const float> partial_lse,
                       size_t heads, MatView<float> out, MatView<float> lse);

}  // namespace fettle::kernels
