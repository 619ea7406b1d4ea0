#include "compress/solve/sensitivity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "compress/solve/magr.h"
#include "compress/solve/qronos.h"
#include "compress/solve/rotate.h"
#include "compress/solve/solve_test_util.h"
#include "compress/solve/transforms.h"
#include "io/test_util.h"

namespace fettle::compress {
namespace {

using testing::correlated_inputs;
using testing::moments;
using testing::normal_matrix;
using testing::TestMatrix;

BitLayer layer(const std::string& name, double scale, int64_t fused = -1) {
  // Errors fall fourfold per bit: 2, 3, 4 and 8 bits of 100 weights.
  BitLayer l{.name = name, .weights = 100, .choices = {}, .fused = fused};
  for (const double bits : {2.0, 3.0, 4.0, 8.0}) l.choices.push_back({100 * bits, scale * std::pow(4.0, -bits)});
  return l;
}

TEST(BitAllocation, IsOptimalOnAHullAndKeepsFusedLayersTogether) {
  const std::vector<BitLayer> layers = {layer("a", 1), layer("b", 100), layer("q", 1, 7), layer("k", 1, 7)};
  for (const double target : {2.0, 2.5, 3.0, 3.4, 5.0, 8.0}) {
    const BitAllocation a = allocate_bits(layers, target);
    EXPECT_LE(a.bits_per_weight, target * (1 + 1e-12));  // the slack of the budget
    EXPECT_EQ(a.choice[2], a.choice[3]);
    EXPECT_GE(a.choice[1], a.choice[0]) << "the sensitive layer gets at least as many bits";
    // Exhaustive comparison.
    double best = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < 4; ++i)
      for (size_t j = 0; j < 4; ++j)
        for (size_t k = 0; k < 4; ++k) {
          const double bits = layers[0].choices[i].bits + layers[1].choices[j].bits + 2 * layers[2].choices[k].bits;
          const double error = layers[0].choices[i].error + layers[1].choices[j].error + 2 * layers[2].choices[k].error;
          if (bits <= target * 400 + 1e-9) best = std::min(best, error);
        }
    EXPECT_LE(a.error, 2 * best) << target;  // between two points of the hull the greedy rest may miss the optimum
  }
}

TEST(BitAllocation, NeverWorseThanUniform) {
  const std::vector<BitLayer> layers = {layer("a", 3), layer("b", 50), layer("c", 0.1)};
  for (size_t c = 0; c < 4; ++c) {
    double uniform = 0;
    for (const BitLayer& l : layers) uniform += l.choices[c].error;
    EXPECT_LE(allocate_bits(layers, layers[0].choices[c].bits / 100).error, uniform * (1 + 1e-12));
  }
}

TEST(BitAllocation, RefusesWhatCannotBe) {
  std::vector<BitLayer> layers = {layer("a", 1)};
  EXPECT_THAT(io::input_error([&] { allocate_bits(layers, 1.9); }, ErrorCode::kUsage), ::testing::HasSubstr("2.0000"));
  layers.push_back({.name = "empty", .weights = 1, .choices = {}, .fused = -1});
  EXPECT_THAT(io::input_error([&] { allocate_bits(layers, 4); }), ::testing::HasSubstr("'empty'"));
  layers[1] = layer("b", std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(io::input_error([&] { allocate_bits(layers, 4); }), ::testing::HasSubstr("'b'"));
}

TEST(LayerScores, WorstRowDecides) {
  // Row 0 is exact on its 8-bit grid (range 255, step 1); row 1 has one weight a quarter step off.
  TestMatrix w{2, 4, {0, 255, 100, 7, 0, 255, 100.25f, 7}};
  const TestMatrix x{2, 4, {1, 0, 0, 2, 3, 0, 0, 2}};
  const LayerScores s = layer_scores(w.view(), x.view());
  // Numbers of a few bits: every sum and product is exact, one division rounds.
  EXPECT_DOUBLE_EQ(s.weight_quantisation, 1 / (0.25 * 0.25 / 4 + 0x1p-23));
  EXPECT_DOUBLE_EQ(s.mean_variance, s.weight_quantisation * 0.25);
  EXPECT_EQ(s.rounding_norm, 0.25);
  EXPECT_EQ(s.input_energy, 5 + 4);
}

TEST(Qronos, ReducesToGptqAndNeverLosesToRounding) {
  ThreadPool pool(2), one(1);
  const TestMatrix w = normal_matrix(20, 48, 4), x = correlated_inputs(300, 48, 5);
  TestMatrix xq = x;
  const TestMatrix noise = normal_matrix(300, 48, 6);
  for (size_t i = 0; i < xq.data.size(); ++i) xq.data[i] += 0.3f * noise.data[i];
  for (size_t t = 0; t < 300; ++t) xq.at(t, 7) = 0;
  const TestMatrix h = moments(xq, xq), g = moments(x, xq);
  const Grid grid = make_grid(w.view(), Format::kInt4, {.group_size = 16}, GridSearch::kAbsMax, {}, pool, 3);
  const QronosResult fixed = qronos_round(w.view(), h.view(), g.view(), grid, {}, pool);
  EXPECT_EQ(qronos_round(w.view(), h.view(), g.view(), grid, {}, one).rounded.codes, fixed.rounded.codes);
  const QronosResult best = qronos_round(w.view(), h.view(), g.view(), grid, {.auto_alpha = true}, pool);
  EXPECT_LE(best.qronos.j, fixed.qronos.j);
  EXPECT_LT(fixed.qronos.j, fixed.qronos.rtn_j);
  EXPECT_LE(best.qronos.float_bound, best.qronos.j);
  EXPECT_EQ(fixed.rounded.report.dead_columns, 1);
  const RoundResult gptq = gptq_round(w.view(), h.view(), grid, {}, pool);
  EXPECT_LT(fixed.qronos.j, grid_objective(grid, gptq.codes, w.view(), h.view(), g.view(), pool));
  EXPECT_THROW(qronos_round(w.view(), h.view(), g.view().slice_rows(0, 3), grid, {}, pool), Error);
  EXPECT_THROW(qronos_round(w.view(), h.view(), g.view(), grid, {.alpha = 0}, pool), Error);
}

TEST(Qronos, SmallestAndSingularShapes) {
  ThreadPool pool(1);
  for (const size_t k : {size_t{1}, size_t{2}, size_t{33}}) {
    const TestMatrix w = normal_matrix(3, k, 4), x = correlated_inputs(2, k, 5);
    const TestMatrix h = moments(x, x);
    const Grid grid = make_grid(w.view(), Format::kInt4, {.group_size = -1}, GridSearch::kAbsMax, {}, pool);
    const QronosResult r = qronos_round(w.view(), h.view(), h.view(), grid, {}, pool);
    EXPECT_TRUE(std::isfinite(r.qronos.j));
    EXPECT_LE(r.qronos.j, r.qronos.rtn_j);
    EXPECT_EQ(gpfq_round(w.view(), h.view(), h.view(), grid, {}, pool).codes.size(), 3 * k);
  }
}

TEST(Hadamard, AnySizeIsOrthogonalAndUndoneByItsTranspose) {
  for (const int64_t n : {1, 2, 64, 12, 24, 28, 48, 68, 100, 172, 200, 344, 11008 / 16}) {
    std::vector<double> x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(3 * i + 1));
    std::vector<double> y = x;
    hadamard_any(std::span<double>(y), HadamardSide::kPlain);
    hadamard_any(std::span<double>(y), HadamardSide::kTransposed);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-12) << n;
  }
  for (const int64_t n : {3, 92, 188}) {
    std::vector<float> x(static_cast<size_t>(n));
    EXPECT_EQ(hadamard_odd_part(n), 0);
    EXPECT_THROW(hadamard_any(std::span<float>(x), HadamardSide::kPlain), Error);
  }
  const std::vector<float> r = randomised_hadamard(24, 3);
  EXPECT_LT(orthogonality_error({r.data(), 24, 24}), 1e-6);
}

TEST(Transforms, OrthogonalAndProductsUnchanged) {
  ThreadPool pool(2);
  for (const char* name : {"identity", "hadamard", "dct", "dst", "gsr"}) {
    const Transform t = find_transform(name);
    EXPECT_EQ(transform_name(t), name);
    const std::vector<double> m = transform_matrix(t, 16);
    for (size_t i = 0; i < 16; ++i)
      for (size_t j = 0; j < 16; ++j) {
        double s = 0;
        for (size_t k = 0; k < 16; ++k) s += m[i * 16 + k] * m[j * 16 + k];
        ASSERT_NEAR(s, i == j ? 1 : 0, 1e-12) << name;
      }
    TestMatrix x = normal_matrix(2, 48, 1);
    EXPECT_THROW(apply_blocks(t, 32, x.view(), {x.data.data(), 2, 48}, pool), Error);
  }
  EXPECT_THROW(transform_matrix(Transform::kHadamard, 24), Error);
  EXPECT_THROW(find_transform("wavelet"), Error);
}

}  // namespace
}  // namespace fettle::compress
