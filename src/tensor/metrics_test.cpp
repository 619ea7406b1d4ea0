#include "tensor/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/thread_pool.h"

namespace fettle {
namespace {

TEST(Metrics, ByHand) {
  const std::vector<float> r = {3, 4, 0, 0}, v = {3, 3, 2, 0};
  const ErrorStats s = compare(r, v);
  EXPECT_EQ(s.count, 4u);
  EXPECT_DOUBLE_EQ(s.squared_error, 5);
  EXPECT_DOUBLE_EQ(s.relative_squared_error, 5.0 / 25);
  EXPECT_DOUBLE_EQ(s.max_abs, 2);
  EXPECT_DOUBLE_EQ(s.cosine, 21 / (5 * std::sqrt(22.0)));
  EXPECT_DOUBLE_EQ(s.rms(), std::sqrt(5.0 / 4));
}

TEST(Metrics, Degenerate) {
  const std::vector<float> zero = {0, 0}, one = {1, 0}, nan = {1, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_EQ(compare(zero, zero).relative_squared_error, 0);
  EXPECT_EQ(compare(zero, zero).cosine, 1);
  EXPECT_TRUE(std::isinf(compare(zero, one).relative_squared_error));
  EXPECT_EQ(compare(one, zero).cosine, 0);
  EXPECT_EQ(compare(one, zero).relative_squared_error, 1);
  EXPECT_EQ(compare(one, nan).non_finite, 1u);
  EXPECT_EQ(compare(one, nan).relative_squared_error, 0);
  EXPECT_EQ(compare(std::span<const float>(), std::span<const float>()).rms(), 0);
  EXPECT_THROW(compare(zero, std::span<const float>(one).first(1)), Error);
}

TEST(Metrics, MeanOverGroupsByHand) {
  const std::vector<float> r = {1, 1, 0, 0, 10, 0}, v = {1, 0, 1, 0, 9, 0};
  EXPECT_DOUBLE_EQ(mean_group_error(r, v, 2), (0.5 + 0.01) / 2);
  EXPECT_EQ(mean_group_error(std::span(r).subspan(2, 2), std::span(v).subspan(2, 2), 2), 0);
  EXPECT_THROW(mean_group_error(r, v, 4), Error);
}

TEST(Metrics, OfPackedWeights) {
  std::vector<float> x(20 * 64);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  const MatView<const float> view(x.data(), 20, 64);
  const PackedWeight w = format_info(Format::kInt8).encode(view, {});
  ThreadPool pool(3);
  const ErrorStats serial = compare(view, w), parallel = compare(view, w, &pool), flat = compare(x, decode(w));
  EXPECT_EQ(serial.squared_error, parallel.squared_error);
  EXPECT_NEAR(serial.squared_error, flat.squared_error, 1e-12 * flat.squared_error);
  EXPECT_EQ(serial.max_abs, flat.max_abs);
  EXPECT_GT(serial.squared_error, 0);
}

}  // namespace
}  // namespace fettle
