#include "kv/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/kv_page.h"

namespace fettle::kv {

size_t KvLayout::bytes_per_token() const {
  const kernels::PageLayout page{dtype, static_cast<size_t>(page_slots), static_cast<size_t>(head_dim),
                                 static_cast<size_t>(head_dim)};
  return static_cast<size_t>(layers) * static_cast<size_t>(kv_heads) * page.head_bytes() /
         static_cast<size_t>(page_slots);
}

size_t budget_for(const KvLayout& layout, size_t tokens, size_t sequences) {
  const kernels::PageLayout page{layout.dtype, static_cast<size_t>(layout.page_slots),
                                 static_cast<size_t>(layout.head_dim), static_cast<size_t>(layout.head_dim)};
  const size_t lanes = static_cast<size_t>(layout.layers) * static_cast<size_t>(layout.kv_heads);
  const size_t slack =
      static_cast<size_t>(layout.layers) * 2 * kernels::kPageSlackBytes;  // at most one group per layer
  const size_t pages = sequences * (ceil_div(tokens, page.slots) + 1);
  constexpr size_t kSlab = size_t{2} << 20;
  const std::set<int> windows(layout.window.begin(), layout.window.end());
  return pages * (lanes * page.head_bytes() + slack) + (windows.size() + 1) * kSlab;
}

KvCache::KvCache(const KvLayout& layout, size_t budget_bytes, size_t slab_bytes)
    : layout_(layout), pool_(budget_bytes, slab_bytes) {
  for (int value : {layout.layers, layout.kv_heads, layout.head_dim, layout.page_slots})
    if (value < 1)
      fail(ErrorCode::kUsage, "KV cache: layers, heads, dimensions and page slots must be positive, found {}", value);
  if (!layout.window.empty() && layout.window.size() != static_cast<size_t>(layout.layers))
    fail(ErrorCode::kUsage, "KV cache: {} windows for {} layers", layout.window.size(), layout.layers);
  page_ = {layout.dtype, static_cast<size_t>(layout.page_slots), static_cast<size_t>(layout.head_dim),
           static_cast<size_t>(layout.head_dim)};
  kernels::check_page_layout(page_);
  const size_t layer_bytes = static_cast<size_t>(layout.kv_heads) * page_.head_bytes();
  for (int layer = 0; layer < layout.layers; ++layer) {
    const int window = layout.window.empty() ? 0 : layout.window[static_cast<size_t>(layer)];
    if (window < 0) fail(ErrorCode::kUsage, "KV cache: window {} of layer {} is negative", window, layer);
    size_t g = 0;
    while (g < groups_.size() && (layout.scope == Scope::kLayer || groups_[g].window != static_cast<size_t>(window)))
      ++g;
    if (g == groups_.size()) groups_.push_back({{}, static_cast<size_t>(window), 0});
    group_of_layer_.push_back(g);
    lane_offset_.push_back(groups_[g].layers.size() * layer_bytes);
    groups_[g].layers.push_back(layer);
  }
  size_t least = 0;
  std::vector<size_t> class_bytes;
  for (Group& group : groups_) {
    const size_t bytes = round_up(group.layers.size() * layer_bytes + kernels::kPageSlackBytes, size_t{64});
    least += bytes;
    const auto same = std::find(class_bytes.begin(), class_bytes.end(), bytes);  // groups of one size share a free list
    group.page_class = static_cast<size_t>(same - class_bytes.begin());
    if (same == class_bytes.end()) {
      class_bytes.push_back(bytes);
      pool_.add_class(bytes);
    }
  }
  if (budget_bytes < least)
    fail(ErrorCode::kUsage, "KV cache of {} bytes: {} tokens of this model need {} bytes", budget_bytes,
         layout.page_slots, least);
}

KvCache::Sequence& KvCache::get(SeqId seq) { return const_cast<Sequence&>(std::as_const(*this).get(seq)); }

const KvCache::Sequence& KvCache::get(SeqId seq) const {
  FETTLE_CHECK(contains(seq));
  return sequences_[static_cast<uint64_t>(seq) & UINT32_MAX];
}

bool KvCache::contains(SeqId seq) const {
  const size_t index = static_cast<uint64_t>(seq) & UINT32_MAX;
  return index < sequences_.size() && sequences_[index].live &&
         sequences_[index].generation == static_cast<uint64_t>(seq) >> 32;
}

SeqId KvCache::id_of(size_t index) const {
  return static_cast<SeqId>(static_cast<uint64_t>(sequences_[index].generation) << 32 | index);
}

SeqId KvCache::create() {
  size_t index;
  if (!free_sequences_.empty()) {
    index = free_sequences_.back();
    free_sequences_.pop_back();
  } else {
    index = sequences_.size();
    sequences_.emplace_back();
  }
  Sequence& s = sequences_[index];
  s.live = true;
  ++s.generation;
  s.length = 0;
  s.maps.assign(groups_.size(), {});
  return id_of(index);
}

SeqId KvCache::fork(SeqId seq) {
  FETTLE_CHECK(contains(seq));
  const SeqId child = create();
  const Sequence& parent = get(seq);
  Sequence& s = get(child);
  s.length = parent.length;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const size_t pages = ceil_div(parent.length, page_.slots);
    SlotMap& map = s.maps[g];
    map.first_page = parent.maps[g].first_page;
    map.pages.assign(parent.maps[g].pages.begin(), parent.maps[g].pages.begin() + static_cast<ptrdiff_t>(pages));
    map.data.assign(parent.maps[g].data.begin(), parent.maps[g].data.begin() + static_cast<ptrdiff_t>(pages));
    for (size_t p = map.first_page; p < pages; ++p) pool_.retain(groups_[g].page_class, map.pages[p]);
  }
  return child;
}

void KvCache::free(SeqId seq) {
  Sequence& s = get(seq);
  // Tail first: when pages become findable by prefix, deeper ones must go before their parents.
  for (size_t g = 0; g < groups_.size(); ++g)
    drop_pages(s.maps[g], groups_[g], s.maps[g].first_page, s.maps[g].pages.size());
  s.maps.clear();
  s.live = false;
  free_sequences_.push_back(static_cast<uint64_t>(seq) & UINT32_MAX);
}

// Releases pages [from, to), last first. Entries stay, empty.
void KvCache::drop_pages(SlotMap& map, const Group& group, size_t from, size_t to) {
  for (size_t p = to; p-- > from;) {
    pool_.release(group.page_class, map.pages[p]);
    map.pages[p] = kNoPage;
    map.data[p] = nullptr;
  }
}

bool KvCache::reserve(SeqId seq, size_t n) {
  Sequence& s = get(seq);
  const size_t first = s.length / page_.slots, pages = ceil_div(s.length + n, page_.slots);
  if (n == 0) return true;
  // Pages [first, pages) must be open and private. Everything is allocated before anything changes.
  std::vector<std::vector<PageIndex>> fresh(groups_.size());
  const auto undo = [&] {
    for (size_t g = 0; g < groups_.size(); ++g)
      for (PageIndex page : fresh[g]) pool_.release(groups_[g].page_class, page);
  };
  const auto needs_page = [&](size_t g, size_t p) {
    const SlotMap& map = s.maps[g];
    return p >= map.pages.size() || !pool_.writable(groups_[g].page_class, map.pages[p]);
  };
  for (size_t g = 0; g < groups_.size(); ++g)
    for (size_t p = first; p < pages; ++p) {
      if (!needs_page(g, p)) continue;
      const auto page = pool_.allocate(groups_[g].page_class);
      if (!page) {
        undo();
        return false;
      }
      fresh[g].push_back(*page);
    }
  for (size_t g = 0; g < groups_.size(); ++g) {
    SlotMap& map = s.maps[g];
    const size_t cls = groups_[g].page_class;
    auto next = fresh[g].begin();
    for (size_t p = first; p < pages; ++p) {
      if (!needs_page(g, p)) continue;
      const PageIndex page = *next++;
      if (p < map.pages.size()) {
        // Copy-on-write. Only the page with committed tokens holds anything worth copying.
        if (p * page_.slots < s.length) {
          std::memcpy(pool_.data(cls, page), map.data[p], pool_.page_bytes(cls));
          ++copied_pages_;
        }
        pool_.release(cls, map.pages[p]);
        map.pages[p] = page;
        map.data[p] = pool_.data(cls, page);
      } else {
        map.pages.push_back(page);
        map.data.push_back(pool_.data(cls, page));
      }
    }
  }
  return true;
}

void KvCache::write(SeqId seq, int layer, size_t first, MatView<const float> k, MatView<const float> v) {
  const Sequence& s = get(seq);
  const size_t at = static_cast<size_t>(layer);
  FETTLE_CHECK(layer >= 0 && layer < layout_.layers);
  FETTLE_CHECK_EQ(k.rows, v.rows);
  FETTLE_CHECK_EQ(k.cols, static_cast<size_t>(layout_.kv_heads * layout_.head_dim));
  FETTLE_CHECK_EQ(v.cols, k.cols);
  const SlotMap& map = s.maps[group_of_layer_[at]];
  const size_t cls = groups_[group_of_layer_[at]].page_class;
  FETTLE_CHECK(first >= s.length && first + k.rows <= map.pages.size() * page_.slots);
  const size_t head_bytes = page_.head_bytes(), dim = page_.head_dim;
  for (size_t row = 0; row < k.rows;) {
    const size_t page = (first + row) / page_.slots, last = std::min(k.rows, (page + 1) * page_.slots - first);
    FETTLE_CHECK(pool_.writable(cls, map.pages[page]));
    std::byte* lanes = pool_.data(cls, map.pages[page]) + lane_offset_[at];
    for (size_t h = 0; h < static_cast<size_t>(layout_.kv_heads); ++h)
      for (size_t r = row; r < last; ++r)
        kernels::store_kv_row(page_, lanes + h * head_bytes, (first + r) % page_.slots, k.row(r) + h * dim,
                              v.row(r) + h * dim);
    row = last;
  }
}

void KvCache::commit(SeqId seq, size_t n) {
  Sequence& s = get(seq);
  FETTLE_CHECK(s.length + n <= reserved(seq));
  const size_t sealed_before = s.length / page_.slots;
  s.length += n;
  for (size_t g = 0; g < groups_.size(); ++g)
    for (size_t p = sealed_before; p < s.length / page_.slots; ++p)
      pool_.seal(groups_[g].page_class, s.maps[g].pages[p]);
  release_behind_windows(s);
}

// First slot that the token at position `length` may see.
size_t KvCache::first_needed_slot(const Group& group, size_t length) const {
  return group.window > 0 && length >= group.window ? length - group.window + 1 : 0;
}

// A whole page more than the window is kept, so that as many tokens can be dropped again.
void KvCache::release_behind_windows(Sequence& s) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    SlotMap& map = s.maps[g];
    const size_t needed = first_needed_slot(groups_[g], s.length) / page_.slots;
    const size_t first_kept = needed > 0 ? needed - 1 : 0;
    if (first_kept <= map.first_page) continue;
    drop_pages(map, groups_[g], map.first_page, first_kept);
    map.first_page = first_kept;
  }
}

size_t KvCache::min_length(SeqId seq) const {
  const Sequence& s = get(seq);
  size_t least = 0;
  for (size_t g = 0; g < groups_.size(); ++g)
    if (s.maps[g].first_page > 0)  // first_needed_slot(n) >= first_page * slots
      least = std::max(least, s.maps[g].first_page * page_.slots + groups_[g].window - 1);
  return least;
}

bool KvCache::truncate(SeqId seq, size_t n) {
  Sequence& s = get(seq);
  FETTLE_CHECK(n <= s.length);
  if (n > 0 && n < min_length(seq)) return false;
  const size_t keep = ceil_div(n, page_.slots);
  for (size_t g = 0; g < groups_.size(); ++g) {
    SlotMap& map = s.maps[g];
    drop_pages(map, groups_[g], std::max(keep, map.first_page), map.pages.size());
    map.pages.resize(keep);
    map.data.resize(keep);
    map.first_page = std::min(map.first_page, keep);
  }
  s.length = n;
  return true;
}

size_t KvCache::length(SeqId seq) const { return get(seq).length; }

size_t KvCache::reserved(SeqId seq) const { return get(seq).maps[0].pages.size() * page_.slots; }

kernels::KvView KvCache::view(SeqId seq, int layer, size_t n_slots) const {
  const Sequence& s = get(seq);
  FETTLE_CHECK(layer >= 0 && layer < layout_.layers);
  const SlotMap& map = s.maps[group_of_layer_[static_cast<size_t>(layer)]];
  FETTLE_CHECK(n_slots <= map.pages.size() * page_.slots);
  kernels::KvView view;
  view.pages = map.data.data();
  view.n_slots = n_slots;
  view.layout = page_;
  view.heads = static_cast<size_t>(layout_.kv_heads);
  view.lane_offset = lane_offset_[static_cast<size_t>(layer)];
  view.head_stride = page_.head_bytes();
  return view;
}

size_t KvCache::available_tokens() const {
  std::vector<size_t> per_page(groups_.size(), 0);  // pages of each class for one more page of tokens
  size_t classes = 0;
  for (const Group& group : groups_) {
    ++per_page[group.page_class];
    classes = std::max(classes, group.page_class + 1);
  }
  const auto fits = [&](size_t pages) {
    std::vector<size_t> wanted(classes);
    for (size_t c = 0; c < classes; ++c) wanted[c] = per_page[c] * pages;
    return pool_.can_allocate(wanted);
  };
  size_t low = 0, high = pool_.budget_bytes() / pool_.page_bytes(0) + 1;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low * page_.slots;
}

KvStats KvCache::stats() const {
  KvStats stats;
  stats.sequences = sequences_.size() - free_sequences_.size();
  size_t classes = 0;
  for (const Group& group : groups_) classes = std::max(classes, group.page_class + 1);
  for (size_t c = 0; c < classes; ++c) {
    stats.used_pages += pool_.used_pages(c);
    stats.free_pages += pool_.free_pages(c);
  }
  stats.used_bytes = pool_.used_bytes();
  stats.held_bytes = pool_.slab_bytes();
  stats.budget_bytes = pool_.budget_bytes();
  stats.copied_pages = copied_pages_;
  return stats;
}

void KvCache::check_invariants() const {
  std::vector<std::vector<uint32_t>> references(groups_.size());
  for (const Sequence& s : sequences_) {
    if (!s.live) continue;
    FETTLE_CHECK_EQ(s.maps.size(), groups_.size());
    for (size_t g = 0; g < groups_.size(); ++g) {
      const SlotMap& map = s.maps[g];
      const size_t cls = groups_[g].page_class;
      FETTLE_CHECK_EQ(map.pages.size(), s.maps[0].pages.size());
      FETTLE_CHECK_EQ(map.pages.size(), map.data.size());
      FETTLE_CHECK(s.length <= map.pages.size() * page_.slots);
      FETTLE_CHECK(map.first_page * page_.slots <= first_needed_slot(groups_[g], s.length));
      for (size_t p = 0; p < map.pages.size(); ++p) {
        if (p < map.first_page) {
          FETTLE_CHECK(map.pages[p] == kNoPage && map.data[p] == nullptr);
          continue;
        }
        const PageIndex page = map.pages[p];
        FETTLE_CHECK(map.data[p] == pool_.data(cls, page));
        if ((p + 1) * page_.slots <= s.length) FETTLE_CHECK(pool_.state(cls, page) == PageState::kSealed);
        if (references[cls].size() <= page) references[cls].resize(page + 1, 0);
        ++references[cls][page];
      }
    }
  }
  pool_.check(references);
}

}  // namespace fettle::kv
