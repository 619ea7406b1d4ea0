#include "compress/solve/scale_estimation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compress/solve/solve_test_util.h"
#include "io/test_util.h"

namespace fettle::compress {
namespace {

using testing::normal_matrix;
using testing::TestMatrix;

FormatOptions groups_of(int64_t group, bool symmetric) {
  return {.group_size = group, .symmetric = symmetric, .scale_dtype = DType::kF32};
}

TEST(ScaleEstimation, NeverWorseOnTheMeansAndOftenBetter) {
  ThreadPool pool(3), one(1);
  // 72 columns: the last group has 8.
  const TestMatrix w = normal_matrix(20, 72, 1), means = normal_matrix(50, 72, 2);
  for (const bool symmetric : {false, true})
    for (const Format format : {Format::kInt4, Format::kInt8}) {
      const ScaleEstimates r = estimate_scales(w.view(), means.view(), format, groups_of(16, symmetric), pool);
      size_t better = 0;
      for (size_t i = 0; i < r.errors.size(); ++i) {
        EXPECT_LE(r.errors[i], r.first_errors[i]) << i;
        better += r.errors[i] < r.first_errors[i];
      }
      EXPECT_GT(better, r.errors.size() / 5);
      EXPECT_EQ(estimate_scales(w.view(), means.view(), format, groups_of(16, symmetric), one).grid.scales,
                r.grid.scales);
    }
}

TEST(ScaleEstimation, WeightsOnTheGridStayThere) {
  ThreadPool pool(1);
  TestMatrix w{1, 16, std::vector<float>(16)};
  for (size_t j = 0; j < 16; ++j) w.at(0, j) = 0.5f * (static_cast<float>(j) - 8);
  const TestMatrix means = normal_matrix(6, 16, 3);
  for (const bool symmetric : {false, true}) {
    const ScaleEstimates r = estimate_scales(w.view(), means.view(), Format::kInt4, groups_of(16, symmetric), pool);
    std::vector<uint8_t> codes(16);
    round_to_grid(r.grid, w.view(), codes, pool);
    // Importances sum to 1 - 2^-23 / sum, so the scale is right to a few 1e-7.
    for (size_t j = 0; j < 16; ++j)
      EXPECT_NEAR(grid_value(r.grid, 0, static_cast<int64_t>(j), codes[j]), w.data[j], 4 * 1e-6) << j;
  }
}

TEST(ScaleEstimation, FlatGroupsAndSilentInputs) {
  ThreadPool pool(1);
  for (const float value : {0.0f, 0.75f, -2.0f})
    for (const bool symmetric : {false, true}) {
      const TestMatrix w{2, 32, std::vector<float>(64, value)}, means{3, 32, std::vector<float>(96, 0.0f)};
      const ScaleEstimates r = estimate_scales(w.view(), means.view(), Format::kInt4, groups_of(16, symmetric), pool);
      std::vector<uint8_t> codes(64);
      round_to_grid(r.grid, w.view(), codes, pool);
      for (size_t i = 0; i < 64; ++i)
        EXPECT_FLOAT_EQ(grid_value(r.grid, static_cast<int64_t>(i / 32), static_cast<int64_t>(i % 32), codes[i]),
                        value);
      pack_grid(r.grid, codes);
    }
}

TEST(ScaleEstimation, RefusesWhatItCannotDo) {
  ThreadPool pool(1);
  const TestMatrix w = normal_matrix(2, 32, 1), means = normal_matrix(2, 31, 2);
  EXPECT_THAT(io::input_error([&] { estimate_scales(w.view(), means.view(), Format::kInt4, {}, pool); }),
              ::testing::HasSubstr("2 x 31"));
  EXPECT_THAT(
      io::input_error([&] { estimate_scales(w.view(), w.view(), Format::kNvfp4, {}, pool); }, ErrorCode::kUsage),
      ::testing::HasSubstr("nvfp4"));
  EXPECT_THROW(estimate_scales(w.view(), MatView<const float>(nullptr, 0, 32), Format::kInt4, {}, pool), Error);
}

}  // namespace
}  // namespace fettle::compress
