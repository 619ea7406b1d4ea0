#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace fettle::kv {

enum class PageState : uint8_t {
  kFree,    // in the free list
  kOpen,    // being written; only a page with one reference may be
  kSealed,  // full: its bytes never change again
  kGone,    // its memory went to another size class
};

using PageIndex = uint32_t;  // within a size class
constexpr PageIndex kNoPage = UINT32_MAX;

// Reference-counted fixed-size pages, one free list per size class, under one byte budget. Memory comes in slabs of
// about 2 MiB; when the budget is used up, slabs of another class that are entirely free are given back first.
//   Free -> Open -> Sealed -> Free; refs == 0 <=> Free.
// Owner: one thread. Page bytes may be read, and an open page written, by any thread that the owner knows of.
// New pages hold arbitrary bytes; debug builds fill freed pages with 0xFF (NaN in every float format).
class PagePool {
 public:
  explicit PagePool(size_t budget_bytes, size_t slab_bytes = size_t{2} << 20)
      : budget_(budget_bytes), slab_target_(slab_bytes) {}
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // page_bytes: multiple of 64. Returns the class number, counting from 0.
  size_t add_class(size_t page_bytes);

  // An open page with one reference, or nothing when the budget is used up.
  std::optional<PageIndex> allocate(size_t cls);
  void retain(size_t cls, PageIndex page);
  void release(size_t cls, PageIndex page);  // the last reference frees it
  void seal(size_t cls, PageIndex page);

  std::byte* data(size_t cls, PageIndex page) const { return classes_[cls].pages[page].data; }
  uint32_t refs(size_t cls, PageIndex page) const { return classes_[cls].pages[page].refs; }
  PageState state(size_t cls, PageIndex page) const { return classes_[cls].pages[page].state; }
  bool writable(size_t cls, PageIndex page) const {
    return refs(cls, page) == 1 && state(cls, page) == PageState::kOpen;
  }

  size_t page_bytes(size_t cls) const { return classes_[cls].page_bytes; }
  size_t used_pages(size_t cls) const { return classes_[cls].used; }
  size_t free_pages(size_t cls) const { return classes_[cls].free.size(); }
  size_t used_bytes() const;
  size_t slab_bytes() const { return slab_bytes_; }  // memory held, used and free
  size_t budget_bytes() const { return budget_; }
  // Whether wanted[cls] pages of every class could be allocated now.
  bool can_allocate(const std::vector<size_t>& wanted) const;

  // Throws kInternal when counts, free lists and states disagree; references are checked against `expected[cls][page]`.
  void check(const std::vector<std::vector<uint32_t>>& expected) const;

 private:
  struct Page {
    std::byte* data = nullptr;
    uint32_t refs = 0;
    uint32_t slab = 0;
    PageState state = PageState::kGone;
  };
  struct Slab {
    std::byte* memory = nullptr;  // null: given back
    size_t bytes = 0, pages = 0, used = 0;
  };
  struct Class {
    size_t page_bytes = 0, used = 0;
    std::vector<Page> pages;
    std::vector<Slab> slabs;
    std::vector<PageIndex> free, gone;  // free: last in, first out
  };

  bool grow(size_t cls);
  bool give_back_slab(size_t except);

  size_t budget_, slab_target_, slab_bytes_ = 0;
  std::vector<Class> classes_;
};

}  // namespace fettle::kv
