#include "compress/solve/gptq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "compress/solve/factor.h"
#include "compress/solve/hessian.h"
#include "compress/solve/solve_test_util.h"
#include "io/test_util.h"

namespace fettle::compress {
namespace {

using testing::correlated_inputs;
using testing::moments;
using testing::normal_matrix;
using testing::TestMatrix;

Grid int4_grid(const TestMatrix& w, int64_t group, ThreadPool& pool, bool symmetric = true) {
  return make_grid(w.view(), Format::kInt4, {.group_size = group, .symmetric = symmetric}, GridSearch::kAbsMax, {},
                   pool);
}

TEST(InverseFactor, SquaresToTheInverse) {
  const TestMatrix x = correlated_inputs(200, 37, 4);
  const TestMatrix h = moments(x, x);
  const std::vector<int64_t> perm = activation_order(h.view());
  const std::vector<uint8_t> dead(37, 0);
  const auto u = inverse_factor<double>(h.view(), perm, dead, 0.5);
  ASSERT_TRUE(u.has_value());
  // (U^T U) (H + 0.5 I) = I in permuted order.
  for (size_t i = 0; i < 37; ++i)
    for (size_t j = 0; j < 37; ++j) {
      double s = 0;
      for (size_t a = 0; a < 37; ++a) {
        double inverse = 0;
        for (size_t b = 0; b < 37; ++b) inverse += (*u)[b * 37 + i] * (*u)[b * 37 + a];
        s += inverse * (h.data[static_cast<size_t>(perm[a] * 37 + perm[j])] + (a == j ? 0.5 : 0.0));
      }
      // Condition of H + 0.5 I (below 1e3) times 37 sums of F64 roundings, 1e3 * 37 * 2^-53 = 4e-12.
      EXPECT_NEAR(s, i == j ? 1.0 : 0.0, 4e-12);
      if (j < i) {
        EXPECT_EQ((*u)[i * 37 + j], 0.0);
      }
    }
}

TEST(Gptq, DiagonalHessianRoundsToNearest) {
  ThreadPool pool(2);
  const TestMatrix w = normal_matrix(70, 96, 1);
  TestMatrix h{96, 96, std::vector<float>(96 * 96, 0.0f)};
  for (size_t i = 0; i < 96; ++i) h.at(i, i) = 1.0f + static_cast<float>(i % 3);
  const Grid grid = int4_grid(w, 32, pool);
  std::vector<uint8_t> nearest(w.data.size());
  round_to_grid(grid, w.view(), nearest, pool);
  for (const bool order : {false, true}) {
    const RoundResult r = gptq_round(w.view(), h.view(), grid, {.act_order = order}, pool);
    EXPECT_EQ(r.codes, nearest);
    EXPECT_EQ(r.report.note, "");
    EXPECT_EQ(r.report.objective, r.report.rtn_objective);
  }
}

TEST(Gptq, BeatsRoundingForEveryFormatAndOrder) {
  ThreadPool pool(2);
  const TestMatrix w = normal_matrix(33, 192, 2), x = correlated_inputs(600, 192, 3), h = moments(x, x);
  for (const Format f : {Format::kInt4, Format::kInt8, Format::kNF4, Format::kFp8, Format::kMxfp4, Format::kNvfp4})
    for (const bool order : {false, true}) {
      const Grid grid = make_grid(w.view(), f, {}, GridSearch::kAbsMax, {}, pool);
      const RoundResult r = gptq_round(w.view(), h.view(), grid, {.act_order = order}, pool);
      EXPECT_LT(r.report.objective, 0.8 * r.report.rtn_objective) << format_info(f).name << order;
      const std::vector<float> q = decode(pack_grid(r.grid, r.codes));
      EXPECT_EQ(q.size(), w.data.size());
    }
}

TEST(Gptq, BlockSizeAndThreadsDoNotMatter) {
  ThreadPool one(1), three(3);
  const TestMatrix w = normal_matrix(150, 200, 2), x = correlated_inputs(500, 200, 3), h = moments(x, x);
  for (const bool dynamic : {false, true}) {
    const Grid grid = int4_grid(w, 40, one, false);
    const GptqOptions base{.act_order = !dynamic, .dynamic_groups = dynamic};
    const RoundResult want = gptq_round(w.view(), h.view(), grid, base, one);
    EXPECT_EQ(gptq_round(w.view(), h.view(), grid, base, three).codes, want.codes);
    for (const int64_t block : {1, 7, 24, 64, 1000}) {
      GptqOptions o = base;
      o.block = block;
      const RoundResult got = gptq_round(w.view(), h.view(), grid, o, three);
      size_t different = 0;
      for (size_t i = 0; i < want.codes.size(); ++i) different += got.codes[i] != want.codes[i];
      EXPECT_LE(different, want.codes.size() / 200) << "block " << block << " dynamic " << dynamic;
    }
  }
}

TEST(Gptq, DeadColumnsBecomeZeroAndSingularMatricesAreDamped) {
  ThreadPool pool(2);
  TestMatrix w = normal_matrix(5, 64, 2), x = correlated_inputs(20, 64, 3);  // rank 20
  for (size_t t = 0; t < x.rows; ++t) x.at(t, 9) = x.at(t, 63) = 0;
  for (size_t t = 0; t < x.rows; ++t) x.at(t, 11) = x.at(t, 10);  // duplicated
  const TestMatrix h = moments(x, x);
  for (const bool symmetric : {true, false}) {
    const RoundResult r = gptq_round(w.view(), h.view(), int4_grid(w, 32, pool, symmetric), {}, pool);
    EXPECT_EQ(r.report.dead_columns, 2);
    EXPECT_FALSE(r.report.fell_back_to_rtn);
    EXPECT_LE(r.report.objective, r.report.rtn_objective);
    for (int64_t n = 0; n < 5; ++n) EXPECT_EQ(grid_value(r.grid, n, 9, r.codes[static_cast<size_t>(n * 64 + 9)]), 0);
  }
}

TEST(Gptq, LadderRaisesDampingThenRoundsWithAWarning) {
  ThreadPool pool(1);
  const TestMatrix w = normal_matrix(3, 32, 2);
  TestMatrix h{32, 32, std::vector<float>(32 * 32, 0.0f)};
  for (size_t i = 0; i < 32; ++i) h.at(i, i) = 1;
  h.at(0, 1) = h.at(1, 0) = 1.05f;  // indefinite until damping passes 0.05
  const RoundResult raised = gptq_round(w.view(), h.view(), int4_grid(w, 32, pool), {}, pool);
  EXPECT_EQ(raised.report.retries, 1);
  EXPECT_DOUBLE_EQ(raised.report.damping_used, 0.1);  // 0.01 * mean 1 * 10
  EXPECT_THAT(raised.report.note, ::testing::HasSubstr("damping raised"));
  h.at(0, 1) = h.at(1, 0) = 100;
  const Grid grid = int4_grid(w, 32, pool);
  const RoundResult rounded = gptq_round(w.view(), h.view(), grid, {}, pool);
  EXPECT_TRUE(rounded.report.fell_back_to_rtn);
  EXPECT_EQ(rounded.report.retries, 3);
  EXPECT_EQ(rounded.codes, rtn_round(w.view(), h.view(), grid, pool).codes);
  const TestMatrix none{32, 32, std::vector<float>(32 * 32, 0.0f)};
  EXPECT_TRUE(gptq_round(w.view(), none.view(), grid, {}, pool).report.fell_back_to_rtn);
}

TEST(Gptq, SmallestShapes) {
  ThreadPool pool(1);
  const TestMatrix w = normal_matrix(1, 1, 2);
  const TestMatrix h{1, 1, {2.0f}};
  EXPECT_EQ(gptq_round(w.view(), h.view(), int4_grid(w, -1, pool), {}, pool).codes.size(), 1u);
}

TEST(Gptq, RefusesBadInput) {
  ThreadPool pool(1);
  TestMatrix w = normal_matrix(3, 32, 2), h{32, 32, std::vector<float>(32 * 32, 0.0f)};
  for (size_t i = 0; i < 32; ++i) h.at(i, i) = 1;
  const Grid grid = int4_grid(w, 32, pool);
  const auto run = [&](const GptqOptions& o = {}) { return [&, o] { gptq_round(w.view(), h.view(), grid, o, pool); }; };
  EXPECT_THAT(io::input_error(run({.dynamic_groups = true}), ErrorCode::kUsage), ::testing::HasSubstr("act_order"));
  EXPECT_THAT(io::input_error(run({.damping = -1}), ErrorCode::kUsage), ::testing::HasSubstr("damping"));
  EXPECT_THAT(io::input_error(run({.block = 0}), ErrorCode::kUsage), ::testing::HasSubstr("block"));
  h.at(4, 5) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(io::input_error(run(), ErrorCode::kNumeric), ::testing::HasSubstr("row 4, column 5"));
  h.at(4, 5) = 0;
  h.at(6, 6) = -1;
  EXPECT_THAT(io::input_error(run(), ErrorCode::kNumeric), ::testing::HasSubstr("diagonal element 6"));
  h.at(6, 6) = 1;
  w.at(2, 3) = std::numeric_limits<float>::infinity();
  EXPECT_THAT(io::input_error(run(), ErrorCode::kNumeric), ::testing::HasSubstr("row 2, column 3"));
  const TestMatrix narrow = normal_matrix(3, 31, 2);
  EXPECT_THAT(io::input_error([&] { gptq_round(narrow.view(), h.view(), grid, {}, pool); }),
              ::testing::HasSubstr("3 x 31"));
}

TEST(Hessian, EqualsTheDefinitionForEveryShape) {
  ThreadPool pool(3);
  for (const size_t k : {size_t{1}, size_t{3}, size_t{256}, size_t{300}, size_t{520}}) {
    const TestMatrix x = correlated_inputs(40, k, 5), y = correlated_inputs(40, k, 6);
    HessianAccumulator h(static_cast<int64_t>(k));
    CrossAccumulator g(static_cast<int64_t>(k));
    h.add(x.view().slice_rows(0, 13), pool);
    h.add(x.view().slice_rows(13, 40), pool);
    g.add(x.view(), y.view(), pool);
    const TestMatrix want = moments(x, x), cross = moments(x, y);
    EXPECT_EQ(h.tokens(), 40);
    const auto mean = h.mean(&pool);
    const auto mixed = g.mean();
    for (size_t i = 0; i < k; ++i)
      for (size_t j = 0; j < k; ++j) {
        // 40 products of magnitude <= 16 in F32.
        ASSERT_NEAR(mean.row(i)[j], want.data[i * k + j], 1e-4) << k;
        ASSERT_EQ(mean.row(i)[j], mean.row(j)[i]);
        ASSERT_NEAR(mixed.row(i)[j], cross.data[i * k + j], 1e-4) << k;
      }
    EXPECT_EQ(h.diagonal()[k - 1], mean.row(k - 1)[k - 1]);
  }
}

TEST(Hessian, ThreadsDoNotMatterAndBytesRoundTrip) {
  ThreadPool one(1), three(3);
  const TestMatrix x = correlated_inputs(1500, 300, 5);
  HessianAccumulator a(300), b(300);
  a.add(x.view(), one);
  b.add(x.view(), three);
  EXPECT_EQ(a.save(), b.save());
  HessianAccumulator c = HessianAccumulator::load(a.save(), "h.bin");
  EXPECT_EQ(c.tokens(), 1500);
  EXPECT_EQ(c.save(), a.save());
  c.merge(b);
  EXPECT_EQ(c.tokens(), 3000);
  EXPECT_EQ(c.mean().row(3)[2], b.mean().row(3)[2]);  // twice the sum over twice the tokens: powers of two
  std::vector<std::byte> cut = a.save();
  EXPECT_THROW(CrossAccumulator::load(cut, "h.bin"), Error);
  cut.pop_back();
  EXPECT_THROW(HessianAccumulator::load(cut, "h.bin"), Error);
  EXPECT_THROW(HessianAccumulator::load({}, "h.bin"), Error);
  cut = a.save();
  cut[16] = std::byte{0xFF};
  EXPECT_THROW(HessianAccumulator::load(cut, "h.bin"), Error);
}

TEST(Hessian, RefusesBadInput) {
  ThreadPool pool(2);
  TestMatrix x = correlated_inputs(5, 30, 1);
  HessianAccumulator h(30), narrow(29);
  EXPECT_THROW(HessianAccumulator(0), Error);
  EXPECT_THAT(io::input_error([&] { narrow.add(x.view(), pool); }), ::testing::HasSubstr("expected 29"));
  EXPECT_THROW(h.merge(narrow), Error);
  x.at(3, 4) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(io::input_error([&] { h.add(x.view(), pool); }, ErrorCode::kNumeric),
              ::testing::HasSubstr("row 3, column 4"));
  EXPECT_EQ(h.tokens(), 0);
  EXPECT_THAT(token_note(10, 30), ::testing::HasSubstr("singular"));
  EXPECT_EQ(token_note(120, 30), "");
}

}  // namespace
}  // namespace fettle::compress
