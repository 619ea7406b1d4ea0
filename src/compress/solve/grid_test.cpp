#include "compress/solve/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compress/solve/solve_test_util.h"
#include "io/test_util.h"

namespace fettle::compress {
namespace {

using testing::normal_matrix;
using testing::TestMatrix;

struct Case {
  Format format;
  FormatOptions options;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const bool symmetric : {true, false})
    for (const int64_t group : {32, -1, 48})
      for (const DType type : {DType::kF32, DType::kBF16, DType::kF16})
        for (const Format f : {Format::kInt4, Format::kInt8})
          out.push_back({f, {.group_size = group, .symmetric = symmetric, .scale_dtype = type}});
  out.push_back({Format::kInt4, {.group_size = 64, .int_scale = IntScale::kFull}});
  for (const Format f : {Format::kNF4, Format::kFp8, Format::kMxfp4, Format::kMxfp8, Format::kNvfp4})
    out.push_back({f, {}});
  out.push_back({Format::kFp8, {.group_size = -2}});
  return out;
}

TEST(Grid, AbsMaxIsTheEncoderByteForByte) {
  ThreadPool pool(2);
  TestMatrix w = normal_matrix(7, 192, 3);
  for (size_t c = 32; c < 64; ++c) w.at(2, c) = 0;
  for (const Case& c : cases()) {
    const FormatInfo& info = format_info(c.format);
    SCOPED_TRACE(std::string(info.name) + " group " + std::to_string(c.options.group_size));
    const PackedWeight want = encode(info, w.view(), c.options, pool);
    const Grid g = make_grid(w.view(), c.format, c.options, GridSearch::kAbsMax, {}, pool);
    std::vector<uint8_t> codes(w.data.size());
    round_to_grid(g, w.view(), codes, pool);
    const PackedWeight got = pack_grid(g, codes);
    check_packed(got);
    EXPECT_EQ(decode(got), decode(want));
    EXPECT_EQ(got.scales.to_f32(), want.scales.to_f32());
  }
}

TEST(Grid, PackedFormDecodesToGridValues) {
  ThreadPool pool(2);
  const TestMatrix w = normal_matrix(6, 192, 5);
  std::vector<float> importance(192);
  for (size_t i = 0; i < 192; ++i) importance[i] = 0.1f + static_cast<float>(i % 5);
  for (const Case& c : cases())
    for (const GridSearch s : {GridSearch::kAbsMax, GridSearch::kMse, GridSearch::kImatrix, GridSearch::kHessian}) {
      const Grid g = make_grid(w.view(), c.format, c.options, s, importance, pool);
      std::vector<uint8_t> codes(w.data.size());
      round_to_grid(g, w.view(), codes, pool);
      const std::vector<float> got = decode(pack_grid(g, codes));
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_EQ(got[i], grid_value(g, static_cast<int64_t>(i / 192), static_cast<int64_t>(i % 192), codes[i]))
            << format_info(c.format).name << " search " << static_cast<int>(s) << " at " << i;
    }
}

double weighted_error(const Grid& g, const TestMatrix& w, std::span<const float> importance, ThreadPool& pool) {
  std::vector<uint8_t> codes(w.data.size());
  round_to_grid(g, w.view(), codes, pool);
  double sum = 0;
  for (size_t i = 0; i < w.data.size(); ++i) {
    const auto r = static_cast<int64_t>(i / w.cols), c = static_cast<int64_t>(i % w.cols);
    const double d = grid_value(g, r, c, codes[i]) - w.data[i];
    sum += importance[i % w.cols] * d * d;
  }
  return sum;
}

TEST(Grid, SearchIsNeverWorseThanAbsMaxInItsObjective) {
  ThreadPool pool(2);
  const TestMatrix w = normal_matrix(9, 192, 8);
  const std::vector<float> ones(192, 1.0f);
  std::vector<float> importance(192);
  for (size_t i = 0; i < 192; ++i) importance[i] = i % 11 == 0 ? 50.0f : 0.5f;
  for (const Case& c : cases()) {
    if (c.options.group_size == -2) continue;
    SCOPED_TRACE(format_info(c.format).name);
    const Grid plain = make_grid(w.view(), c.format, c.options, GridSearch::kAbsMax, {}, pool);
    const Grid unweighted = make_grid(w.view(), c.format, c.options, GridSearch::kHessian, {}, pool);
    const Grid weighted = make_grid(w.view(), c.format, c.options, GridSearch::kHessian, importance, pool);
    EXPECT_LE(weighted_error(unweighted, w, ones, pool), weighted_error(plain, w, ones, pool) * (1 + 1e-6));
    EXPECT_LE(weighted_error(weighted, w, importance, pool), weighted_error(plain, w, importance, pool) * (1 + 1e-6));
  }
}

TEST(Grid, SameForAnyNumberOfThreads) {
  const TestMatrix w = normal_matrix(50, 160, 9);
  ThreadPool one(1), three(3);
  for (const Format f : {Format::kNvfp4, Format::kInt4}) {
    const Grid a = make_grid(w.view(), f, {}, GridSearch::kHessian, {}, one);
    const Grid b = make_grid(w.view(), f, {}, GridSearch::kHessian, {}, three);
    EXPECT_EQ(a.scales, b.scales);
    EXPECT_EQ(a.tensor_scale, b.tensor_scale);
  }
}

TEST(Grid, ZeroAndTinyWeightsStayFinite) {
  ThreadPool pool(1);
  for (const float v : {0.0f, 1e-42f, 1e-30f, 1e30f})
    for (const Case& c : cases())
      for (const GridSearch s : {GridSearch::kAbsMax, GridSearch::kMse, GridSearch::kHessian}) {
        if (c.options.scale_dtype == DType::kF16 && v > 1) continue;  // scale out of F16's range: refused
        TestMatrix w{2, 96, std::vector<float>(192, v)};
        w.at(0, 5) = -v;
        const Grid g = make_grid(w.view(), c.format, c.options, s, {}, pool);
        std::vector<uint8_t> codes(192);
        round_to_grid(g, w.view(), codes, pool);
        for (const float x : decode(pack_grid(g, codes))) {
          ASSERT_TRUE(std::isfinite(x)) << format_info(c.format).name << " " << v;
          if (v == 0) {
            ASSERT_EQ(x, 0.0f) << format_info(c.format).name;
          }
        }
      }
}

TEST(Grid, NarrowIntegersUseTheirLevels) {
  ThreadPool pool(1);
  const TestMatrix w = normal_matrix(4, 64, 2);
  for (const int bits : {2, 3}) {
    const Grid g =
        make_grid(w.view(), Format::kInt4, {.group_size = 32, .symmetric = false}, GridSearch::kAbsMax, {}, pool, bits);
    std::vector<uint8_t> codes(w.data.size());
    round_to_grid(g, w.view(), codes, pool);
    EXPECT_EQ(*std::max_element(codes.begin(), codes.end()), (1 << bits) - 1);
    EXPECT_EQ(*std::min_element(codes.begin(), codes.end()), 0);
  }
}

TEST(Grid, RefusesBadInput) {
  ThreadPool pool(1);
  TestMatrix w = normal_matrix(2, 40, 1);
  const std::vector<float> importance(40, 1.0f);
  const auto make = [&](Format f, const FormatOptions& o, std::span<const float> imp, int bits) {
    return [&, f, o, imp, bits] { make_grid(w.view(), f, o, GridSearch::kHessian, imp, pool, bits); };
  };
  EXPECT_THAT(io::input_error(make(Format::kNvfp4, {}, {}, 0)), ::testing::HasSubstr("40"));
  EXPECT_THAT(io::input_error(make(Format::kMxfp4, {.group_size = 16}, {}, 0)), ::testing::HasSubstr("expected 32"));
  EXPECT_THAT(io::input_error(make(Format::kInt4, {}, std::span(importance).first(39), 0)),
              ::testing::HasSubstr("expected 40"));
  EXPECT_THAT(io::input_error(make(Format::kQ4_K, {}, {}, 0), ErrorCode::kUsage), ::testing::HasSubstr("int4"));
  EXPECT_THAT(io::input_error(make(Format::kInt4, {}, {}, 5), ErrorCode::kUsage), ::testing::HasSubstr("2 to 4"));
  std::vector<float> bad = importance;
  bad[3] = -1;
  EXPECT_THAT(io::input_error(make(Format::kInt4, {}, bad, 0), ErrorCode::kNumeric), ::testing::HasSubstr("column 3"));
  w.at(1, 2) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(io::input_error(make(Format::kInt4, {}, {}, 0), ErrorCode::kNumeric), ::testing::HasSubstr("nan"));
}

TEST(Grid, ScalesOutsideTheStoredTypeAreNotPacked) {
  ThreadPool pool(1);
  const TestMatrix w = normal_matrix(2, 32, 1);
  Grid g = make_grid(w.view(), Format::kInt4, {.group_size = 32}, GridSearch::kAbsMax, {}, pool);
  const std::vector<uint8_t> codes(64, 8);
  g.scales[1] *= 1.0001f;
  EXPECT_THAT(io::input_error([&] { pack_grid(g, codes); }, ErrorCode::kUsage), ::testing::HasSubstr("BF16"));
}

}  // namespace
}  // namespace fettle::compress
