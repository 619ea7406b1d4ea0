#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/attention_ref.h"
#include "kernels/attention_test_util.h"
#include "kernels/emulated_levels.h"
#include "kernels/isa_test_util.h"

namespace fettle::kernels {
namespace {

using test::PagedKv;

using test::for_each_isa;

enum class MaskKind { kNone, kCausal, kWindow, kLimits, kTree, kBlocks, kCount };

// One random problem: a sequence with some query rows, every feature drawn at random.
struct Problem {
  uint64_t seed;
  PageLayout layout;
  size_t kv_heads, group, n_keys, n_rows;
  MaskKind mask;
  AttnParams params;
  std::vector<float> q, k, v, sinks;
  std::vector<uint32_t> limits, columns, row_begin;
  std::vector<uint64_t> tree;
  BlockList blocks;
  AttnSequence sequence;
  std::unique_ptr<PagedKv> kv;

  size_t heads() const { return kv_heads * group; }

  explicit Problem(uint64_t s, DType dtype) : seed(s) {
    Random random(seed, 7);
    const auto pick = [&](auto... options) {
      const std::array<size_t, sizeof...(options)> all{static_cast<size_t>(options)...};
      return all[random.below(all.size())];
    };
    layout = {dtype, pick(16, 32, 64, 128, 256), pick(1, 3, 8, 15, 16, 17, 40, 64, 80, 128), 0};
    layout.value_dim = pick(0, 1) ? layout.head_dim : pick(4, 16, 24, 64);
    kv_heads = pick(1, 2, 3);
    group = pick(1, 1, 2, 3, 4, 6, 8, 16);
    n_keys = pick(0, 1, 2, 15, 16, 17, 63, 65, 127, 128, 129, 200, 300, 513, 700, 1100);
    n_rows = pick(1, 1, 2, 3, 7, 17, 40);
    mask = static_cast<MaskKind>(random.below(static_cast<uint64_t>(MaskKind::kCount)));
    params.heads = heads();
    params.scale = 1.0f / std::sqrt(static_cast<float>(layout.head_dim));
    params.softcap = pick(0, 0, 0, 1) ? 3.0f : 0.0f;
    params.key_block = pick(128, 128, 128, 16, 24, 100);
    params.segment = params.key_block * pick(0, 1, 4, 4);
    params.rescale_threshold = pick(0, 1) ? 8.0f : 0.0f;
    params.math = AttnMath::kF32;
    params.causal = mask == MaskKind::kCausal || mask == MaskKind::kWindow || mask == MaskKind::kBlocks;
    if (mask == MaskKind::kWindow) params.window = static_cast<uint32_t>(pick(1, 2, 16, 100, 130));
    if (pick(0, 0, 0, 1)) sinks = test::normals(random, heads());
    params.sinks = sinks;
    q = test::normals(random, n_rows * heads() * layout.head_dim, pick(0, 1) ? 1.0f : 3.0f);
    k = test::normals(random, n_keys * kv_heads * layout.head_dim);
    v = test::normals(random, n_keys * kv_heads * layout.value_dim);
    kv = std::make_unique<PagedKv>(layout, kv_heads, n_keys);
    for (size_t j = 0; j < n_keys; ++j)
      kv->store(j, &k[j * kv_heads * layout.head_dim], &v[j * kv_heads * layout.value_dim]);
    sequence.kv = kv->view();
    sequence.n_rows = n_rows;
    sequence.first_position = n_keys >= n_rows ? static_cast<uint32_t>(n_keys - n_rows) : 0;
    if (mask == MaskKind::kLimits) {
      for (size_t i = 0; i < n_rows; ++i) limits.push_back(static_cast<uint32_t>(random.below(n_keys + 2)));
      sequence.key_limits = limits;
    }
    if (mask == MaskKind::kTree) {
      const size_t words = pick(1, 1, 2, 5);
      for (size_t i = 0; i < n_rows * words; ++i)
        tree.push_back(static_cast<uint64_t>(random.bits()) << 32 | random.bits());
      sequence.mask_bits = tree;
      sequence.mask_words = words;
      sequence.mask_begin = n_keys > 20 ? n_keys - pick(4, 20) : 0;
    }
    if (mask == MaskKind::kBlocks) {
      blocks.query_block = pick(1, 16, 128);
      blocks.key_block = pick(16, 20, 48, 128);
      row_begin.push_back(0);
      for (size_t b = 0; b * blocks.query_block < n_rows; ++b) {
        for (size_t c = 0; c * blocks.key_block < n_keys; ++c)
          if (random.below(2)) columns.push_back(static_cast<uint32_t>(c));
        row_begin.push_back(static_cast<uint32_t>(columns.size()));
      }
      blocks.row_begin = row_begin;
      blocks.columns = columns;
      sequence.blocks = &blocks;
    }
    read_back();
  }

  // K and V as the pages hold them, per head contiguous.
  std::vector<float> stored_k, stored_v;
  void read_back() {
    stored_k.resize(kv_heads * n_keys * layout.head_dim);
    stored_v.resize(kv_heads * n_keys * layout.value_dim);
    for (size_t h = 0; h < kv_heads; ++h)
      for (size_t j = 0; j < n_keys; ++j)
        kv->load(j, h, &stored_k[(h * n_keys + j) * layout.head_dim], &stored_v[(h * n_keys + j) * layout.value_dim]);
  }

  bool visible(size_t row, size_t j) const {
    const size_t position = sequence.first_position + row;
    switch (mask) {
      case MaskKind::kNone:
        return true;
      case MaskKind::kCausal:
        return j <= position;
      case MaskKind::kWindow:
        return j <= position && position - j < params.window;
      case MaskKind::kLimits:
        return j < limits[row];
      case MaskKind::kTree: {
        if (j < sequence.mask_begin) return true;
        const size_t bit = j - sequence.mask_begin, words = sequence.mask_words;
        return bit < 64 * words && (tree[row * words + bit / 64] >> (bit % 64) & 1);
      }
      case MaskKind::kBlocks: {
        const size_t b = row / blocks.query_block;
        const auto first = columns.begin() + row_begin[b], last = columns.begin() + row_begin[b + 1];
        return j <= position && std::binary_search(first, last, static_cast<uint32_t>(j / blocks.key_block));
      }
      case MaskKind::kCount:
        break;
    }
    return false;
  }

  ref::AttentionRow reference(size_t row, size_t head) const {
    const size_t h = head / group;
    return ref::attention_row(
        &q[(row * heads() + head) * layout.head_dim], stored_k.data() + h * n_keys * layout.head_dim,
        stored_v.data() + h * n_keys * layout.value_dim, n_keys, layout.head_dim, layout.value_dim, params.scale,
        params.softcap, sinks.empty() ? nullptr : &sinks[head], [&](size_t j) { return visible(row, j); });
  }

  MatView<const float> q_view() const { return {q.data(), n_rows, heads() * layout.head_dim}; }
};

struct Output {
  std::vector<float> out, lse;
  bool operator==(const Output& o) const {
    return std::memcmp(out.data(), o.out.data(), out.size() * 4) == 0 &&
           std::memcmp(lse.data(), o.lse.data(), lse.size() * 4) == 0;
  }
};

Output run(const Problem& p, ThreadPool& pool, AttnScratch& scratch,
           const detail::AttentionKernels* kernels = nullptr) {
  Output o{std::vector<float>(p.n_rows * p.heads() * p.layout.value_dim, -7.0f),
           std::vector<float>(p.n_rows * p.heads())};
  const MatView<float> out{o.out.data(), p.n_rows, p.heads() * p.layout.value_dim},
      lse{o.lse.data(), p.n_rows, p.heads()};
  if (kernels)
    detail::attention_with(*kernels, {&p.sequence, 1}, p.params, p.q_view(), pool, scratch, out, lse, nullptr);
  else
    attention({&p.sequence, 1}, p.params, p.q_view(), pool, scratch, out, lse);
  return o;
}

// Error bounds: every weight carries 2e-7 (degree 5) or 1e-4 (degree 3) and q, p a BF16 rounding in BF16 math; scores
// of standard deviation up to 3 make the f32 dot error about 1e-6.
void expect_close(const Problem& p, const Output& o, double tolerance) {
  for (size_t row = 0; row < p.n_rows; ++row)
    for (size_t head = 0; head < p.heads(); ++head) {
      const ref::AttentionRow want = p.reference(row, head);
      const float lse = o.lse[row * p.heads() + head];
      if (std::isinf(want.lse)) {
        ASSERT_EQ(lse, static_cast<float>(want.lse)) << "seed " << p.seed;
      } else {
        ASSERT_NEAR(lse, want.lse, tolerance * (2 + std::fabs(want.lse))) << "seed " << p.seed << " row " << row;
      }
      for (size_t d = 0; d < p.layout.value_dim; ++d)
        ASSERT_NEAR(o.out[(row * p.heads() + head) * p.layout.value_dim + d], want.out[d], tolerance)
            << "seed " << p.seed << " row " << row << " head " << head << " d " << d << " of " << p.layout.value_dim;
    }
}

class AttentionRandom : public testing::TestWithParam<DType> {};

TEST_P(AttentionRandom, MatchesDefinitionOnEveryIsa) {
  ThreadPool pool(2);
  AttnScratch scratch;
  for_each_isa([&] {
    const uint64_t cases = active_isa() == Isa::kScalar ? 40 : 200;
    for (uint64_t seed = 0; seed < cases; ++seed) {
      const Problem p(seed, GetParam());
      expect_close(p, run(p, pool, scratch), GetParam() == DType::kI8 ? 1e-5 : 6e-6);
      if (HasFatalFailure()) return;
    }
  });
}

TEST_P(AttentionRandom, Bf16MathStaysInItsBudget) {
  ThreadPool pool(1);
  AttnScratch scratch;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Problem p(seed, GetParam());
    p.params.math = AttnMath::kBf16;
    expect_close(p, run(p, pool, scratch), 6e-2);
    if (HasFatalFailure()) return;
  }
}

// The vector interface promises one IEEE operation per lane, so all levels agree to the bit in f32 math.
TEST_P(AttentionRandom, AllLevelsGiveEqualBits) {
  ThreadPool pool(1);
  AttnScratch scratch;
  for (uint64_t seed = 1000; seed < 1030; ++seed) {
    const Problem p(seed, GetParam());
    force_isa(Isa::kScalar);
    const Output want = run(p, pool, scratch);
    for_each_isa([&] { ASSERT_TRUE(run(p, pool, scratch) == want) << "seed " << seed; });
    if (HasFatalFailure()) return;
  }
}

TEST_P(AttentionRandom, ThreadsDoNotChangeBits) {
  ThreadPool one(1), two(2), seven(7);
  AttnScratch scratch;
  for (uint64_t seed = 2000; seed < 2060; ++seed) {
    const Problem p(seed, GetParam());
    const Output want = run(p, one, scratch);
    ASSERT_TRUE(run(p, two, scratch) == want) << "seed " << seed;
    ASSERT_TRUE(run(p, seven, scratch) == want) << "seed " << seed;
  }
}

// Every row in a call of its own: a decode step, which reads pages directly.
Output run_rows(const Problem& p, ThreadPool& pool, AttnScratch& scratch, const detail::AttentionKernels* kernels) {
  Output o{std::vector<float>(p.n_rows * p.heads() * p.layout.value_dim), std::vector<float>(p.n_rows * p.heads())};
  for (size_t row = 0; row < p.n_rows; ++row) {
    AttnSequence s = p.sequence;
    s.first_row = row;
    s.n_rows = 1;
    s.first_position = static_cast<uint32_t>(s.first_position + row);
    if (!s.key_limits.empty()) s.key_limits = s.key_limits.subspan(row, 1);
    if (!s.mask_bits.empty()) s.mask_bits = s.mask_bits.subspan(row * s.mask_words, s.mask_words);
    const MatView<float> out{o.out.data(), p.n_rows, p.heads() * p.layout.value_dim},
        lse{o.lse.data(), p.n_rows, p.heads()};
    if (kernels)
      detail::attention_with(*kernels, {&s, 1}, p.params, p.q_view(), pool, scratch, out, lse, nullptr);
    else
      attention({&s, 1}, p.params, p.q_view(), pool, scratch, out, lse);
  }
  return o;
}

TEST_P(AttentionRandom, RowsAloneGiveTheBitsOfTheChunk) {
  ThreadPool pool(2);
  AttnScratch scratch;
  for (uint64_t seed = 3000; seed < 3100; ++seed) {
    const Problem p(seed, GetParam());
    if (p.mask == MaskKind::kBlocks) continue;  // block lists count rows from the first row of the call
    ASSERT_TRUE(run_rows(p, pool, scratch, nullptr) == run(p, pool, scratch)) << "seed " << seed;
  }
}

bool can_emulate() { return supported_isas().size() > 1; }

TEST_P(AttentionRandom, EmulatedAvx512GivesTheBitsOfTheReference) {
  if (!can_emulate()) GTEST_SKIP() << "needs AVX2";
  ThreadPool pool(1);
  AttnScratch scratch;
  for (uint64_t seed = 4000; seed < 4060; ++seed) {
    const Problem p(seed, GetParam());
    ASSERT_TRUE(run(p, pool, scratch, &test::kEmulatedAttention) == run(p, pool, scratch)) << "seed " << seed;
  }
}

TEST(AttentionBf16Dot, EmulatedStaysInItsBudgetAndRowsEqualTheChunk) {
  if (!can_emulate()) GTEST_SKIP() << "needs AVX2";
  ThreadPool pool(2);
  AttnScratch scratch;
  for (uint64_t seed = 5000; seed < 5080; ++seed) {
    Problem p(seed, DType::kBF16);
    p.params.math = AttnMath::kAuto;
    const Output o = run(p, pool, scratch, &test::kEmulatedAttentionBf16);
    expect_close(p, o, 6e-2);
    if (HasFatalFailure()) return;
    if (p.mask != MaskKind::kBlocks) {
      ASSERT_TRUE(run_rows(p, pool, scratch, &test::kEmulatedAttentionBf16) == o) << "seed " << seed;
    }
    p.params.math = AttnMath::kF32;
    ASSERT_TRUE(run(p, pool, scratch, &test::kEmulatedAttentionBf16) == run(p, pool, scratch)) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, AttentionRandom, testing::Values(DType::kF32, DType::kBF16, DType::kI8),
                         [](const auto& param) {
                           return param.param == DType::kF32 ? "f32" : param.param == DType::kBF16 ? "bf16" : "i8";
                         });

// One head, 40 keys; row i sees keys <= 10 + i.
struct Small {
  PagedKv kv{{DType::kF32, 16, 8, 8}, 1, 40};
  std::vector<float> q = std::vector<float>(5 * 8, 0.5f), out = std::vector<float>(5 * 8), lse = std::vector<float>(5);
  AttnParams params;
  ThreadPool pool{1};
  AttnScratch scratch;

  Small() {
    params.heads = 1;
    params.scale = 0.3f;
    for (size_t j = 0; j < 40; ++j) store(j, 0.1f * static_cast<float>(j % 7), static_cast<float>(j));
  }
  void store(size_t slot, float k, float v) {
    const std::vector<float> key(8, k), value(8, v);
    kv.store(slot, key.data(), value.data());
  }
  void run() {
    AttnSequence s;
    s.kv = kv.view();
    s.n_rows = 5;
    s.first_position = 10;
    attention({&s, 1}, params, {q.data(), 5, 8}, pool, scratch, {out.data(), 5, 8}, {lse.data(), 5, 1});
  }
};

TEST(Attention, NonFiniteScoresAndValuesReachExactlyTheRowsThatSeeThem) {
  for_each_isa([] {
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
      for (bool in_key : {true, false}) {
        Small clean, dirty;
        clean.run();
        dirty.store(12, in_key ? bad : 0.2f, in_key ? 1.0f : bad);
        dirty.store(30, bad, bad);  // seen by no row
        dirty.run();
        for (size_t row = 0; row < 5; ++row)
          for (size_t d = 0; d < 8; ++d) {
            const float got = dirty.out[row * 8 + d];
            if (row < 2) {
              EXPECT_EQ(got, clean.out[row * 8 + d]);
            } else {
              EXPECT_FALSE(std::isfinite(got)) << "row " << row;
            }
          }
        for (size_t row = 2; row < 5; ++row) EXPECT_EQ(std::isnan(dirty.lse[row]), in_key);
      }
  });
}

TEST(Attention, PartsMergeToTheWhole) {
  for_each_isa([] {
    for (uint64_t seed = 6000; seed < 6020; ++seed) {
      Problem p(seed, DType::kF32);
      p.params.sinks = {};
      if (p.mask == MaskKind::kBlocks) continue;
      ThreadPool pool(1);
      AttnScratch scratch;
      const Output whole = run(p, pool, scratch);
      std::vector<float> out, lse;
      const size_t cut = p.n_keys / 3;
      for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, cut}, {cut, cut}, {cut, SIZE_MAX}}) {
        p.sequence.slot_begin = begin;
        p.sequence.slot_end = end;
        const Output part = run(p, pool, scratch);
        out.insert(out.end(), part.out.begin(), part.out.end());
        lse.insert(lse.end(), part.lse.begin(), part.lse.end());
      }
      Output merged = whole;
      combine_attention(3, out, lse, p.heads(), {merged.out.data(), p.n_rows, p.heads() * p.layout.value_dim},
                        {merged.lse.data(), p.n_rows, p.heads()});
      for (size_t i = 0; i < whole.out.size(); ++i) ASSERT_NEAR(merged.out[i], whole.out[i], 4e-6) << "seed " << seed;
      for (size_t i = 0; i < whole.lse.size(); ++i)
        if (std::isfinite(whole.lse[i])) {
          ASSERT_NEAR(merged.lse[i], whole.lse[i], 1e-5) << "seed " << seed;
        }
    }
  });
}

}  // namespace
}  // namespace fettle::kernels
