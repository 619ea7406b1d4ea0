#include "kv/page_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"

namespace fettle::kv {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Null when the system has no more memory.
std::byte* allocate_slab(size_t bytes) {
  const size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  void* memory = std::aligned_alloc(alignment, round_up(bytes, alignment));
  // Fewer TLB misses when attention streams through the pages; the system may ignore it.
  if (memory && bytes >= kHugePage) ::madvise(memory, round_up(bytes, alignment), MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

}  // namespace

PagePool::~PagePool() {
  for (Class& c : classes_)
    for (Slab& s : c.slabs) std::free(s.memory);
}

size_t PagePool::add_class(size_t page_bytes) {
  FETTLE_CHECK(page_bytes > 0 && page_bytes % 64 == 0);
  classes_.emplace_back().page_bytes = page_bytes;
  return classes_.size() - 1;
}

size_t PagePool::used_bytes() const {
  size_t bytes = 0;
  for (const Class& c : classes_) bytes += c.used * c.page_bytes;
  return bytes;
}

// Adds a slab to the class: about slab_target_ bytes, less when the budget allows no more.
bool PagePool::grow(size_t cls) {
  Class& c = classes_[cls];
  while (budget_ - slab_bytes_ < c.page_bytes)
    if (!give_back_slab(cls)) return false;
  const size_t count =
      std::min(std::max<size_t>(1, slab_target_ / c.page_bytes), (budget_ - slab_bytes_) / c.page_bytes);
  Slab slab{allocate_slab(count * c.page_bytes), count * c.page_bytes, count, 0};
  if (!slab.memory) return false;
  const auto number = static_cast<uint32_t>(c.slabs.size());
  c.slabs.push_back(slab);
  slab_bytes_ += slab.bytes;
  std::vector<PageIndex> added(count);
  for (size_t i = 0; i < count; ++i) {
    if (!c.gone.empty()) {
      added[i] = c.gone.back();
      c.gone.pop_back();
    } else {
      added[i] = static_cast<PageIndex>(c.pages.size());
      c.pages.emplace_back();
    }
    c.pages[added[i]] = {slab.memory + i * c.page_bytes, 0, number, PageState::kFree};
  }
  c.free.insert(c.free.end(), added.rbegin(), added.rend());  // handed out in address order
  return true;
}

// Returns one entirely free slab of another class to the system.
bool PagePool::give_back_slab(size_t except) {
  for (size_t cls = 0; cls < classes_.size(); ++cls) {
    if (cls == except) continue;
    Class& c = classes_[cls];
    for (uint32_t s = 0; s < c.slabs.size(); ++s) {
      Slab& slab = c.slabs[s];
      if (!slab.memory || slab.used > 0) continue;
      std::erase_if(c.free, [&](PageIndex p) { return c.pages[p].slab == s; });
      for (PageIndex p = 0; p < c.pages.size(); ++p)
        if (c.pages[p].slab == s && c.pages[p].state == PageState::kFree) {
          c.pages[p] = Page{};
          c.gone.push_back(p);
        }
      slab_bytes_ -= slab.bytes;
      std::free(slab.memory);
      slab.memory = nullptr;
      return true;
    }
  }
  return false;
}

std::optional<PageIndex> PagePool::allocate(size_t cls) {
  Class& c = classes_[cls];
  if (c.free.empty() && !grow(cls)) return std::nullopt;
  const PageIndex index = c.free.back();
  c.free.pop_back();
  Page& page = c.pages[index];
  page.refs = 1;
  page.state = PageState::kOpen;
  ++c.used;
  ++c.slabs[page.slab].used;
  return index;
}

void PagePool::retain(size_t cls, PageIndex page) {
  FETTLE_CHECK(refs(cls, page) > 0);
  ++classes_[cls].pages[page].refs;
}

void PagePool::release(size_t cls, PageIndex index) {
  Class& c = classes_[cls];
  Page& page = c.pages[index];
  FETTLE_CHECK(page.refs > 0);
  if (--page.refs > 0) return;
  page.state = PageState::kFree;
#ifndef NDEBUG
  std::memset(page.data, 0xFF, c.page_bytes);
#endif
  --c.used;
  --c.slabs[page.slab].used;
  c.free.push_back(index);
}

void PagePool::seal(size_t cls, PageIndex page) {
  FETTLE_CHECK(refs(cls, page) > 0);
  classes_[cls].pages[page].state = PageState::kSealed;
}

bool PagePool::can_allocate(const std::vector<size_t>& wanted) const {
  FETTLE_CHECK_EQ(wanted.size(), classes_.size());
  size_t room = budget_ - slab_bytes_, missing_bytes = 0;
  for (size_t cls = 0; cls < classes_.size(); ++cls) {
    const Class& c = classes_[cls];
    if (wanted[cls] > c.free.size()) {
      missing_bytes += (wanted[cls] - c.free.size()) * c.page_bytes;
      continue;
    }
    // Slabs this class could give back and still serve the request.
    size_t spare = c.free.size() - wanted[cls];
    for (const Slab& s : c.slabs)
      if (s.memory && s.used == 0 && s.pages <= spare) {
        room += s.bytes;
        spare -= s.pages;
      }
  }
  return missing_bytes <= room;
}

void PagePool::check(const std::vector<std::vector<uint32_t>>& expected) const {
  size_t bytes = 0;
  for (size_t cls = 0; cls < classes_.size(); ++cls) {
    const Class& c = classes_[cls];
    std::vector<uint8_t> in_list(c.pages.size(), 0);
    for (const std::vector<PageIndex>* list : {&c.free, &c.gone})
      for (PageIndex p : *list) {
        FETTLE_CHECK(p < c.pages.size());
        FETTLE_CHECK_EQ(int{in_list[p]}, 0);
        in_list[p] = 1;
        FETTLE_CHECK(c.pages[p].state == (list == &c.free ? PageState::kFree : PageState::kGone));
      }
    std::vector<size_t> slab_used(c.slabs.size(), 0);
    size_t used = 0;
    for (PageIndex p = 0; p < c.pages.size(); ++p) {
      const Page& page = c.pages[p];
      const uint32_t want = p < expected[cls].size() ? expected[cls][p] : 0;
      FETTLE_CHECK_EQ(page.refs, want);
      FETTLE_CHECK_EQ(page.refs == 0, in_list[p] == 1);
      if (page.refs == 0) continue;
      FETTLE_CHECK(page.state == PageState::kOpen || page.state == PageState::kSealed);
      ++used;
      ++slab_used[page.slab];
    }
    FETTLE_CHECK_EQ(c.used, used);
    size_t pages = 0;
    for (size_t s = 0; s < c.slabs.size(); ++s) {
      FETTLE_CHECK_EQ(c.slabs[s].used, slab_used[s]);
      if (!c.slabs[s].memory) continue;
      pages += c.slabs[s].pages;
      bytes += c.slabs[s].bytes;
    }
    FETTLE_CHECK_EQ(pages, used + c.free.size());
  }
  FETTLE_CHECK_EQ(bytes, slab_bytes_);
  FETTLE_CHECK(slab_bytes_ <= budget_);
}

}  // namespace fettle::kv
