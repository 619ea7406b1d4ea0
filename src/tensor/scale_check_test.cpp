#include "tensor/scale_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/formats/codecs.h"
#include "tensor/formats/test_util.h"

namespace fettle {
namespace {

using formats::as_matrix;
using formats::gauss;

TEST(ScaleCheck, FindsTheFirstNonFiniteScale) {
  PackedWeight w = format_info(Format::kQ4_1).encode(as_matrix(gauss(4 * 64, 1), 64), {});
  EXPECT_FALSE(find_bad_scale(w).has_value());
  w.mins.mutable_data<uint16_t>()[5] = 0x7C00;
  auto bad = find_bad_scale(w);
  ASSERT_TRUE(bad.has_value());
  EXPECT_EQ(bad->part, "min");
  EXPECT_EQ(bad->row, 2);
  EXPECT_EQ(bad->group, 1);
  EXPECT_TRUE(std::isinf(bad->value));
  w.scales.mutable_data<uint16_t>()[6] = 0x7E00;
  bad = find_bad_scale(w);
  EXPECT_EQ(bad->part, "scale");
  EXPECT_EQ(bad->row, 3);
  EXPECT_EQ(bad->group, 0);
  PackedWeight k = format_info(Format::kQ4_K).encode(as_matrix(gauss(512, 2), 512), {});
  k.super_mins.mutable_data<uint16_t>()[1] = 0xFC00;
  EXPECT_EQ(find_bad_scale(k)->part, "super min");
  EXPECT_FALSE(find_bad_scale(format_info(Format::kBF16).encode(as_matrix(gauss(8, 2), 8), {})).has_value());
}

TEST(ScaleCheck, RepairsOnlyZeroGroups) {
  std::vector<float> x = gauss(2 * 64, 3);
  std::fill_n(x.begin() + 64 + 32, 32, -0.0f);
  for (const Format f : {Format::kMxfp4, Format::kNvfp4}) {
    PackedWeight w = format_info(f).encode(as_matrix(x, 64), {});
    const std::vector<float> want = decode(w);
    const int64_t last = w.scales.numel() - 1;
    w.scales.mutable_data<uint8_t>()[last] = 0xFF;
    EXPECT_TRUE(find_bad_scale(w).has_value());
    EXPECT_EQ(repair_zero_groups(w), 1);
    EXPECT_FALSE(find_bad_scale(w).has_value());
    EXPECT_TRUE(formats::same_floats(decode(w), want));
    EXPECT_EQ(repair_zero_groups(w), 0);
    w.scales.mutable_data<uint8_t>()[0] = 0xFF;
    EXPECT_THAT(formats::message_of([&] { repair_zero_groups(w); }), testing::HasSubstr("row 0, group 0"));
  }
}

}  // namespace
}  // namespace fettle
