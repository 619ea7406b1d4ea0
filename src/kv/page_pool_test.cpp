#include "kv/page_pool.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"

namespace fettle::kv {
namespace {

TEST(PagePool, CountsReferencesAndReusesPages) {
  PagePool pool(10 * 128, 4 * 128);
  const size_t cls = pool.add_class(128);
  const auto a = pool.allocate(cls);
  ASSERT_TRUE(a);
  EXPECT_TRUE(pool.writable(cls, *a));
  pool.retain(cls, *a);
  EXPECT_FALSE(pool.writable(cls, *a));
  pool.release(cls, *a);
  pool.seal(cls, *a);
  EXPECT_FALSE(pool.writable(cls, *a));
  EXPECT_EQ(pool.used_pages(cls), 1u);
  pool.check({{1}});
  pool.release(cls, *a);
  EXPECT_EQ(pool.state(cls, *a), PageState::kFree);
  EXPECT_THROW(pool.release(cls, *a), Error);
  EXPECT_EQ(pool.allocate(cls), a);
}

TEST(PagePool, UsesExactlyTheBudget) {
  PagePool pool(10 * 128 + 127, 4 * 128);
  const size_t cls = pool.add_class(128);
  std::set<std::byte*> seen;
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(pool.can_allocate({1}));
    const auto page = pool.allocate(cls);
    ASSERT_TRUE(page);
    EXPECT_TRUE(seen.insert(pool.data(cls, *page)).second);
  }
  EXPECT_FALSE(pool.can_allocate({1}));
  EXPECT_FALSE(pool.allocate(cls));
  EXPECT_EQ(pool.used_bytes(), 1280u);
  EXPECT_LE(pool.slab_bytes(), pool.budget_bytes());
}

TEST(PagePool, FreeSlabsMoveToTheClassThatNeedsThem) {
  PagePool pool(8 * 128, 4 * 128);
  const size_t small = pool.add_class(128), big = pool.add_class(256);
  std::vector<PageIndex> pages;
  for (int i = 0; i < 8; ++i) pages.push_back(*pool.allocate(small));
  EXPECT_FALSE(pool.can_allocate({0, 1}));
  EXPECT_FALSE(pool.allocate(big));
  for (int i = 0; i < 3; ++i) pool.release(small, pages[static_cast<size_t>(i)]);
  EXPECT_FALSE(pool.allocate(big));  // the slab still has a used page
  pool.release(small, pages[3]);
  EXPECT_TRUE(pool.can_allocate({0, 2}));
  EXPECT_FALSE(pool.can_allocate({1, 2}));
  ASSERT_TRUE(pool.allocate(big));
  ASSERT_TRUE(pool.allocate(big));
  EXPECT_FALSE(pool.allocate(big));
  EXPECT_FALSE(pool.allocate(small));
  pool.check({{0, 0, 0, 0, 1, 1, 1, 1}, {1, 1}});
  EXPECT_THROW(pool.check({{0, 0, 0, 0, 1, 1, 1, 2}, {1, 1}}), Error);
}

}  // namespace
}  // namespace fettle::kv
