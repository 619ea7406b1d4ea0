#include "kv/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "base/random.h"
#include "kernels/attention_ref.h"
#include "kv/attend.h"

namespace fettle::kv {
namespace {

// The K or V row of one token in one layer: a pure function, so that the model of a sequence is its list of token ids.
std::vector<float> row_of(uint64_t token, int layer, bool value, size_t n) {
  Random random(token, static_cast<uint64_t>(layer) * 2 + value);
  std::vector<float> row(n);
  for (float& x : row) x = random.normal();
  return row;
}

// Random operations against a list of token ids per sequence.
class Model {
 public:
  Model(const KvLayout& layout, size_t budget, uint64_t seed)
      : layout_(layout), cache_(layout, budget, budget / 5), random_(seed) {}

  void step() {
    switch (random_.below(8)) {
      case 0:
        add_sequence();
        break;
      case 1:
      case 2:
      case 3:
        append();
        break;
      case 4:
        fork();
        break;
      case 5:
        truncate();
        break;
      case 6:
        draft();
        break;
      case 7:
        if (random_.below(3) == 0) drop();
        break;
    }
    cache_.check_invariants();
    EXPECT_EQ(cache_.stats().sequences, sequences_.size());
    if (!sequences_.empty()) check(pick());
  }

  void finish() {
    for (const auto& [seq, tokens] : sequences_) {
      check({seq, tokens});
      cache_.free(seq);
      EXPECT_FALSE(cache_.contains(seq));
    }
    cache_.check_invariants();
    EXPECT_EQ(cache_.stats().used_pages, 0u);
    EXPECT_EQ(cache_.stats().used_bytes, 0u);
    EXPECT_GT(appended_, 100u);
    EXPECT_GT(refused_, 0u);
    EXPECT_GT(cache_.stats().copied_pages, 0u);
  }

 private:
  using Entry = std::pair<SeqId, std::vector<uint64_t>>;

  Entry pick() {
    auto it = sequences_.begin();
    std::advance(it, static_cast<ptrdiff_t>(random_.below(sequences_.size())));
    return *it;
  }

  void add_sequence() {
    if (sequences_.size() < 12) sequences_[cache_.create()] = {};
  }

  void append() {
    if (sequences_.empty()) return;
    auto [seq, tokens] = pick();
    const size_t n = random_.below(3) ? 1 + random_.below(4) : 1 + random_.below(50);
    if (!reserve(seq, n)) return;
    write(seq, tokens.size(), n);
    cache_.commit(seq, n);
    auto& list = sequences_[seq];
    list.insert(list.end(), written_.begin(), written_.end());
    appended_ += n;
  }

  // Speculative decoding: more rows are written than committed, sometimes after a fork in between.
  void draft() {
    if (sequences_.empty()) return;
    auto [seq, tokens] = pick();
    const size_t n = 1 + random_.below(8);
    if (!reserve(seq, n)) return;
    write(seq, tokens.size(), n);
    const size_t accepted = random_.below(n + 1);
    cache_.commit(seq, accepted);
    auto& list = sequences_[seq];
    list.insert(list.end(), written_.begin(), written_.begin() + static_cast<ptrdiff_t>(accepted));
  }

  void fork() {
    if (sequences_.empty() || sequences_.size() >= 12) return;
    auto [seq, tokens] = pick();
    const SeqId child = cache_.fork(seq);
    EXPECT_EQ(cache_.length(child), tokens.size());
    sequences_[child] = tokens;
  }

  void truncate() {
    if (sequences_.empty()) return;
    auto [seq, tokens] = pick();
    const size_t n = random_.below(8) == 0 ? 0 : tokens.size() - random_.below(std::min<size_t>(tokens.size(), 40) + 1);
    const bool legal = n == 0 || n >= cache_.min_length(seq);
    EXPECT_EQ(cache_.truncate(seq, n), legal);
    if (legal) sequences_[seq].resize(n);
  }

  void drop() {
    if (sequences_.empty()) return;
    const SeqId seq = pick().first;
    cache_.free(seq);
    sequences_.erase(seq);
  }

  bool reserve(SeqId seq, size_t n) {
    const KvStats before = cache_.stats();
    if (cache_.reserve(seq, n)) {
      EXPECT_GE(cache_.reserved(seq), cache_.length(seq) + n);
      return true;
    }
    ++refused_;
    EXPECT_EQ(cache_.stats().used_pages, before.used_pages);
    return false;
  }

  void write(SeqId seq, size_t first, size_t n) {
    const size_t cols = static_cast<size_t>(layout_.kv_heads * layout_.head_dim);
    written_.clear();
    for (size_t i = 0; i < n; ++i) written_.push_back(next_token_++);
    for (int layer = 0; layer < layout_.layers; ++layer) {
      std::vector<float> k, v;
      for (uint64_t token : written_) {
        const auto key = row_of(token, layer, false, cols), value = row_of(token, layer, true, cols);
        k.insert(k.end(), key.begin(), key.end());
        v.insert(v.end(), value.begin(), value.end());
      }
      cache_.write(seq, layer, first, {k.data(), n, cols}, {v.data(), n, cols});
    }
  }

  // Every slot that the next token may see holds exactly the token's rows.
  void check(const Entry& entry) {
    const auto& [seq, tokens] = entry;
    ASSERT_EQ(cache_.length(seq), tokens.size());
    const size_t dim = static_cast<size_t>(layout_.head_dim), heads = static_cast<size_t>(layout_.kv_heads);
    std::vector<float> k(dim), v(dim);
    for (int layer = 0; layer < layout_.layers; ++layer) {
      const kernels::KvView view = cache_.view(seq, layer, tokens.size());
      const size_t window =
          layout_.window.empty() ? 0 : static_cast<size_t>(layout_.window[static_cast<size_t>(layer)]);
      const size_t first = window > 0 && tokens.size() >= window ? tokens.size() - window + 1 : 0;
      for (size_t slot = first; slot < tokens.size(); ++slot) {
        const auto key = row_of(tokens[slot], layer, false, heads * dim),
                   value = row_of(tokens[slot], layer, true, heads * dim);
        for (size_t h = 0; h < heads; ++h) {
          kernels::load_kv_row(view.layout, view.head(slot / view.layout.slots, h), slot % view.layout.slots, k.data(),
                               v.data());
          for (size_t d = 0; d < dim; ++d) {
            ASSERT_EQ(k[d], key[h * dim + d]) << "slot " << slot << " layer " << layer;
            ASSERT_EQ(v[d], value[h * dim + d]) << "slot " << slot << " layer " << layer;
          }
        }
      }
    }
  }

  KvLayout layout_;
  KvCache cache_;
  Random random_;
  std::map<SeqId, std::vector<uint64_t>> sequences_;
  std::vector<uint64_t> written_;
  uint64_t next_token_ = 1;
  size_t appended_ = 0, refused_ = 0;
};

TEST(KvCache, RandomOperationsKeepTheModel) {
  for (uint64_t seed = 0; seed < 3; ++seed)
    for (const std::vector<int>& window :
         {std::vector<int>{}, std::vector<int>{0, 24, 1}, std::vector<int>{40, 40, 40}})
      for (Scope scope : {Scope::kGlobal, Scope::kLayer}) {
        SCOPED_TRACE(testing::Message() << "seed " << seed << " windows " << window.size() << " scope " << int(scope));
        const KvLayout layout{3, 2, 4, 16, DType::kF32, window, scope};
        Model model(layout, 60'000, seed);
        for (int i = 0; i < 600 && !testing::Test::HasFatalFailure(); ++i) model.step();
        if (!testing::Test::HasFatalFailure()) model.finish();
      }
}

std::vector<float> normals(Random& random, size_t n) {
  std::vector<float> v(n);
  for (float& x : v) x = random.normal();
  return v;
}

struct Filled {
  KvLayout layout{2, 2, 16, 32, DType::kF32, {0, 20}, Scope::kGlobal};
  KvCache cache{layout, 1 << 20};
  ThreadPool pool{2};
  kernels::AttnScratch scratch;
  std::vector<float> q, k, v;
  size_t n;

  explicit Filled(size_t tokens) : n(tokens) {
    Random random(tokens);
    q = normals(random, n * 4 * 16);
    k = normals(random, n * 2 * 16);
    v = normals(random, n * 2 * 16);
  }
  MatView<const float> rows(const std::vector<float>& m, size_t first, size_t count) const {
    const size_t cols = m.size() / n;
    return {m.data() + first * cols, count, cols};
  }
  // Runs tokens [first, first + count) of a sequence through "layer" 0 and 1, returns the outputs of both.
  std::vector<float> forward(SeqId seq, size_t first, size_t count) {
    EXPECT_TRUE(cache.reserve(seq, count));
    std::vector<float> all;
    for (int layer = 0; layer < 2; ++layer) {
      cache.write(seq, layer, first, rows(k, first, count), rows(v, first, count));
      std::vector<float> out(count * 64);
      const AttnSeq run{seq, 0, count, first};
      attend(cache, layer, {&run, 1}, rows(q, first, count), {.window = layer == 1 ? 20u : 0u}, pool, scratch,
             {out.data(), count, 64});
      all.insert(all.end(), out.begin(), out.end());
    }
    cache.commit(seq, count);
    return all;
  }
};

TEST(Attend, MatchesDefinitionThroughPages) {
  Filled f(150);
  const std::vector<float> out = f.forward(f.cache.create(), 0, 150);
  for (size_t layer = 0; layer < 2; ++layer)
    for (size_t row = 0; row < 150; ++row)
      for (size_t head = 0; head < 4; ++head) {
        std::vector<float> keys, values;
        for (size_t j = 0; j < 150; ++j)
          for (size_t d = 0; d < 16; ++d) {
            keys.push_back(f.k[j * 32 + head / 2 * 16 + d]);
            values.push_back(f.v[j * 32 + head / 2 * 16 + d]);
          }
        const auto want =
            kernels::ref::attention_row(&f.q[row * 64 + head * 16], keys.data(), values.data(), 150, 16, 16, 0.25, 0,
                                        nullptr, [&](size_t j) { return j <= row && (layer == 0 || row - j < 20); });
        for (size_t d = 0; d < 16; ++d) ASSERT_NEAR(out[(layer * 150 + row) * 64 + head * 16 + d], want.out[d], 5e-6);
      }
}

TEST(Attend, ChunkingStepsForksAndTruncationGiveEqualBits) {
  Filled f(150);
  const std::vector<float> whole = f.forward(f.cache.create(), 0, 150);
  const auto expect_rows = [&](const std::vector<float>& got, size_t first, size_t count) {
    for (size_t layer = 0; layer < 2; ++layer)
      ASSERT_EQ(std::memcmp(&got[layer * count * 64], &whole[(layer * 150 + first) * 64], count * 64 * 4), 0)
          << "rows from " << first;
  };
  for (size_t chunk : {1, 7, 64}) {
    const SeqId seq = f.cache.create();
    for (size_t at = 0; at < 150; at += chunk) {
      const size_t count = std::min<size_t>(chunk, 150 - at);
      expect_rows(f.forward(seq, at, count), at, count);
    }
  }
  const SeqId parent = f.cache.create();
  f.forward(parent, 0, 100);
  const SeqId child = f.cache.fork(parent);
  expect_rows(f.forward(child, 100, 50), 100, 50);
  f.cache.free(child);
  expect_rows(f.forward(parent, 100, 40), 100, 40);
  ASSERT_TRUE(f.cache.truncate(parent, 120));
  expect_rows(f.forward(parent, 120, 30), 120, 30);
  f.cache.check_invariants();
}

TEST(KvCache, ForksShareSealedPages) {
  KvCache cache({2, 2, 16, 16, DType::kBF16, {}, Scope::kGlobal}, 1 << 20);
  const SeqId a = cache.create();
  std::vector<float> rows(40 * 32, 1.0f);
  ASSERT_TRUE(cache.reserve(a, 40));
  for (int layer = 0; layer < 2; ++layer) cache.write(a, layer, 0, {rows.data(), 40, 32}, {rows.data(), 40, 32});
  cache.commit(a, 40);
  EXPECT_EQ(cache.stats().used_pages, 3u);
  const SeqId b = cache.fork(a);
  EXPECT_EQ(cache.stats().used_pages, 3u);
  ASSERT_TRUE(cache.reserve(b, 1));  // copies the open page
  EXPECT_EQ(cache.stats().used_pages, 4u);
  EXPECT_EQ(cache.stats().copied_pages, 1u);
  ASSERT_TRUE(cache.reserve(a, 1));  // alone again: no copy
  EXPECT_EQ(cache.stats().copied_pages, 1u);
  cache.check_invariants();
}

TEST(KvCache, WindowedLayersHoldAboutTheWindow) {
  KvCache cache({2, 1, 16, 16, DType::kBF16, {0, 32}, Scope::kGlobal}, 1 << 20);
  const SeqId a = cache.create();
  std::vector<float> row(16, 1.0f);
  for (int t = 0; t < 320; ++t) {
    ASSERT_TRUE(cache.reserve(a, 1));
    for (int layer = 0; layer < 2; ++layer)
      cache.write(a, layer, static_cast<size_t>(t), {row.data(), 1, 16}, {row.data(), 1, 16});
    cache.commit(a, 1);
  }
  // 20 pages of the full layer; the window of 32 touches 3 pages, and one more is kept.
  EXPECT_LE(cache.stats().used_pages, 20u + 4u);
  EXPECT_FALSE(cache.truncate(a, 100));
  EXPECT_EQ(cache.length(a), 320u);
  EXPECT_TRUE(cache.truncate(a, 304));
}

TEST(KvCache, BudgetAndMistakesAreReported) {
  const KvLayout layout{1, 1, 16, 16, DType::kF32, {}, Scope::kGlobal};
  EXPECT_EQ(layout.bytes_per_token(), 2 * 16 * 4u);
  EXPECT_THROW(KvCache(layout, 100), Error);
  EXPECT_THROW(KvCache({1, 1, 16, 24, DType::kF32, {}, Scope::kGlobal}, 1 << 20), Error);
  EXPECT_THROW(KvCache({1, 1, 16, 16, DType::kF64, {}, Scope::kGlobal}, 1 << 20), Error);
  EXPECT_THROW(KvCache({2, 1, 16, 16, DType::kF32, {0}, Scope::kGlobal}, 1 << 20), Error);
  KvCache cache(layout, 4 * 2112);
  EXPECT_EQ(cache.available_tokens(), 64u);
  const SeqId a = cache.create();
  EXPECT_FALSE(cache.reserve(a, 65));
  EXPECT_TRUE(cache.reserve(a, 64));
  EXPECT_EQ(cache.available_tokens(), 0u);
  std::vector<float> row(16);
  EXPECT_THROW(cache.write(a, 0, 64, {row.data(), 1, 16}, {row.data(), 1, 16}), Error);
  EXPECT_THROW(cache.write(a, 1, 0, {row.data(), 1, 16}, {row.data(), 1, 16}), Error);
  EXPECT_THROW(cache.commit(a, 65), Error);
  cache.commit(a, 20);
  EXPECT_THROW(cache.write(a, 0, 19, {row.data(), 1, 16}, {row.data(), 1, 16}), Error);
  cache.free(a);
  EXPECT_THROW((void)cache.length(a), Error);
  EXPECT_EQ(cache.available_tokens(), 64u);
}

}  // namespace
}  // namespace fettle::kv
