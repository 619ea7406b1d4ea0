#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/attention.h"
#include "kv/page_pool.h"
#include "tensor/tensor.h"

namespace fettle::kv {

// A lane is one (layer, KV head). Lanes that share one token-to-slot map form a lane group.
enum class Scope : uint8_t {
  kGlobal,  // all layers with the same window
  kLayer,   // one group per layer
};

struct KvLayout {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int page_slots = 64;           // tokens per page, power of two from 16 to 256
  DType dtype = DType::kBF16;    // F32, BF16 or I8
  std::vector<int> window = {};  // per layer, 0 = full attention; empty = all full
  Scope scope = Scope::kGlobal;

  // Bytes of K and V per token over all layers, without page rounding.
  size_t bytes_per_token() const;
};

// A budget under which `sequences` sequences of `tokens` tokens each fit: whole pages, one page of slack per sequence
// and slab rounding included. Memory is taken only as it is used.
size_t budget_for(const KvLayout& layout, size_t tokens, size_t sequences);

enum class SeqId : uint64_t {};

struct KvStats {
  size_t sequences = 0;
  size_t used_pages = 0, free_pages = 0;  // over all lane groups
  size_t used_bytes = 0;                  // in pages that hold or are reserved for tokens
  size_t held_bytes = 0;                  // memory taken from the system
  size_t budget_bytes = 0;
  size_t copied_pages = 0;  // copy-on-write so far
};

// K and V of all sequences in fixed-size pages. A sequence has committed tokens [0, length) and may have reserved room
// after them, which a forward pass fills layer by layer before commit() makes the tokens part of the sequence:
//   reserve(s, n) -> write(s, layer, length(s), k, v) for every layer -> commit(s, n)
// Pages full of committed tokens are sealed: never written again, shared freely by forks. Slot s of a sequence is its
// token s; pages of sliding-window layers are released once they are a whole page behind the window.
// Owner: one thread for everything but write() and view(), which may run on any thread between the owner's calls;
// writes to the same rows must not overlap. Unknown ids, rows outside the reserved room: kInternal.
class KvCache {
 public:
  // Throws kUsage for page sizes, dimensions and dtypes that pages cannot have, or when not even one page of every
  // lane group fits the budget. slab_bytes: memory is taken in steps of this size.
  KvCache(const KvLayout& layout, size_t budget_bytes, size_t slab_bytes = size_t{2} << 20);

  SeqId create();
  // A sequence with the same committed tokens, sharing all pages; the first write of either copies the open page.
  // Reserved room is not inherited. Room reserved by the parent must be reserved again.
  SeqId fork(SeqId seq);
  void free(SeqId seq);

  // Room for n more tokens, private to the sequence. False when the budget does not allow it: nothing has changed.
  [[nodiscard]] bool reserve(SeqId seq, size_t n);
  // K and V of tokens [first, first + rows) of one layer; k, v: [rows, kv_heads * head_dim] f32 (K after RoPE).
  void write(SeqId seq, int layer, size_t first, MatView<const float> k, MatView<const float> v);
  void commit(SeqId seq, size_t n);
  // Drops all tokens from n on. False, and nothing changed, when sliding-window layers no longer hold what the token at
  // position n would see: n must be 0 or at least min_length(seq).
  [[nodiscard]] bool truncate(SeqId seq, size_t n);

  size_t length(SeqId seq) const;      // committed tokens = position of the next one
  size_t reserved(SeqId seq) const;    // tokens the sequence has room for, committed ones included
  size_t min_length(SeqId seq) const;  // see truncate
  bool contains(SeqId seq) const;

  // What attention reads: slots [0, n_slots) of one layer, n_slots <= reserved(seq). Valid until the sequence changes.
  kernels::KvView view(SeqId seq, int layer, size_t n_slots) const;

  // Tokens that a new sequence could still get.
  size_t available_tokens() const;
  KvStats stats() const;
  const KvLayout& layout() const { return layout_; }
  // Throws kInternal naming the broken invariant (docs: src/kv/README.md).
  void check_invariants() const;

 private:
  struct Group {
    std::vector<int> layers;
    size_t window = 0;  // 0 = full
    size_t page_class = 0;
  };
  // Pages of one lane group of one sequence. Entries before first_page are released (kNoPage, null).
  struct SlotMap {
    std::vector<PageIndex> pages;
    std::vector<const std::byte*> data;
    size_t first_page = 0;
  };
  struct Sequence {
    bool live = false;
    uint32_t generation = 0;
    size_t length = 0;
    std::vector<SlotMap> maps;  // one per group
  };

  Sequence& get(SeqId seq);
  const Sequence& get(SeqId seq) const;
  SeqId id_of(size_t index) const;
  void drop_pages(SlotMap& map, const Group& group, size_t from, size_t to);
  void release_behind_windows(Sequence& s);
  size_t first_needed_slot(const Group& group, size_t length) const;

  KvLayout layout_;
  kernels::PageLayout page_;
  std::vector<Group> groups_;
  std::vector<size_t> group_of_layer_, lane_offset_;  // per layer
  PagePool pool_;
  std::vector<Sequence> sequences_;
  std::vector<size_t> free_sequences_;
  size_t copied_pages_ = 0;
};

}  // namespace fettle::kv
