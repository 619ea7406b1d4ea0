#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "base/aligned.h"
#include "base/random.h"
#include "kernels/attention.h"

namespace fettle::kernels::test {

inline std::vector<float> normals(Random& random, size_t n, float scale = 1.0f) {
  std::vector<float> v(n);
  for (float& x : v) x = scale * random.normal();
  return v;
}

// Pages of one sequence with one layer, filled with NaN patterns before anything is stored.
class PagedKv {
 public:
  PagedKv(const PageLayout& layout, size_t heads, size_t n_slots) : layout_(layout), heads_(heads), n_slots_(n_slots) {
    const size_t pages = (n_slots + layout.slots - 1) / layout.slots;
    const size_t page_bytes = heads * layout.head_bytes() + kPageSlackBytes;
    memory_.resize(pages * page_bytes + 64);
    std::memset(memory_.data(), 0xFF, memory_.size());
    for (size_t i = 0; i < pages; ++i) pages_.push_back(memory_.data() + i * page_bytes);
    view_pages_.assign(pages_.begin(), pages_.end());
  }

  // k, v: [heads * dim] of one token.
  void store(size_t slot, const float* k, const float* v) {
    for (size_t h = 0; h < heads_; ++h)
      store_kv_row(layout_, head(slot, h), slot % layout_.slots, k + h * layout_.head_dim, v + h * layout_.value_dim);
  }
  // What the pages hold, as F32.
  void load(size_t slot, size_t h, float* k, float* v) const {
    load_kv_row(layout_, pages_[slot / layout_.slots] + h * layout_.head_bytes(), slot % layout_.slots, k, v);
  }
  std::byte* head(size_t slot, size_t h) { return pages_[slot / layout_.slots] + h * layout_.head_bytes(); }

  KvView view() const {
    KvView v;
    v.pages = view_pages_.data();
    v.n_slots = n_slots_;
    v.layout = layout_;
    v.heads = heads_;
    v.head_stride = layout_.head_bytes();
    return v;
  }

 private:
  PageLayout layout_;
  size_t heads_, n_slots_;
  AlignedBuffer<std::byte> memory_;
  std::vector<std::byte*> pages_;
  std::vector<const std::byte*> view_pages_;
};

}  // namespace fettle::kernels::test
