// Properties of every encoder in the registry, then each family's own rules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/thread_pool.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/int.h"
#include "tensor/formats/mx.h"
#include "tensor/formats/nf4.h"
#include "tensor/formats/nvfp4.h"
#include "tensor/formats/test_util.h"
#include "tensor/metrics.h"

namespace fettle::formats {
namespace {

using testing::HasSubstr;

std::vector<float> encode_decode(Format format, const std::vector<float>& x, const FormatOptions& o = {}) {
  return decode(format_info(format).encode(as_matrix(x, x.size()), o));
}

TEST(EveryEncoder, IsDeterministicAndValid) {
  const std::vector<float> x = gauss(37 * 512, 1);
  for (const FormatInfo& info : all_formats()) {
    if (info.encode == nullptr) continue;
    const PackedWeight serial = info.encode(as_matrix(x, 512), {});
    check_packed(serial);
    EXPECT_EQ(serial.format, info.format) << info.name;
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      EXPECT_TRUE(same_weight(serial, encode(info, as_matrix(x, 512), {}, pool)))
          << info.name << " threads " << threads;
    }
  }
}

TEST(EveryEncoder, ReadsStridedRows) {
  const std::vector<float> x = gauss(4 * 300, 2);
  std::vector<float> dense;
  for (size_t r = 0; r < 4; ++r) dense.insert(dense.end(), x.begin() + r * 300, x.begin() + r * 300 + 256);
  for (const FormatInfo& info : all_formats()) {
    if (info.encode == nullptr) continue;
    const MatView<const float> strided(x.data(), 4, 256, 300);
    EXPECT_TRUE(same_weight(info.encode(strided, {}), info.encode(as_matrix(dense, 256), {}))) << info.name;
  }
}

TEST(EveryEncoder, NamesTheFirstNonFiniteWeight) {
  std::vector<float> x = gauss(40 * 256, 3);
  x[30 * 256 + 5] = std::numeric_limits<float>::infinity();
  x[9 * 256 + 17] = std::numeric_limits<float>::quiet_NaN();
  ThreadPool pool(3);
  for (const FormatInfo& info : all_formats()) {
    if (info.encode == nullptr) continue;
    EXPECT_THAT(message_of([&] { encode(info, as_matrix(x, 256), {}, pool); }), HasSubstr("weight [9, 17] is nan"))
        << info.name;
    EXPECT_THROW(info.encode({x.data(), 0, 256}, {}), Error) << info.name;
  }
}

TEST(EveryEncoder, KeepsZerosZeroAndScalesFinite) {
  std::vector<float> x(2 * 512, 0.0f);
  x[512] = 1.0f;
  for (const FormatInfo& info : all_formats()) {
    if (info.encode == nullptr) continue;
    for (const bool symmetric : {true, false}) {
      const PackedWeight w = info.encode(as_matrix(x, 512), {.symmetric = symmetric});
      for (const float s : w.scales.to_f32()) EXPECT_TRUE(std::isfinite(s)) << info.name;
      const std::vector<float> y = decode(w);
      for (size_t i = 0; i < 512; ++i) EXPECT_EQ(y[i], 0.0f) << info.name << " " << i;
    }
  }
}

TEST(EveryEncoder, SurvivesTinyAndHugeMagnitudes) {
  for (const float scale : {1e-42f, 1e-38f, 1e-30f, 1e30f, 1e37f}) {
    const std::vector<float> x = gauss(2 * 256, 4, scale);
    for (const Format f : {Format::kFp8, Format::kInt8, Format::kInt4, Format::kNF4, Format::kMxfp4, Format::kMxfp8,
                           Format::kNvfp4, Format::kBF16}) {
      for (const float v : decode(format_info(f).encode(as_matrix(x, 256), {.scale_dtype = DType::kF32})))
        EXPECT_TRUE(std::isfinite(v)) << format_info(f).name << " " << scale;
    }
  }
}

TEST(EveryEncoder, RefusesGroupsThatDoNotFit) {
  const std::vector<float> x = gauss(40, 5);
  for (const Format f : {Format::kMxfp4, Format::kMxfp8, Format::kNvfp4})
    EXPECT_THAT(message_of([&] { format_info(f).encode(as_matrix(x, 40), {}); }), HasSubstr("40 columns")) << int(f);
  for (const Format f : {Format::kMxfp4, Format::kMxfp8, Format::kNvfp4})
    EXPECT_THAT(message_of([&] { format_info(f).encode(as_matrix(x, 20), {.group_size = 20}); }),
                HasSubstr("group size 20"));
  EXPECT_THAT(message_of([&] { encode_int4(as_matrix(x, 40), {.group_size = -3}, nullptr); }),
              HasSubstr("group size -3"));
  EXPECT_THAT(message_of([&] { encode_int4(as_matrix(x, 40), {.scale_dtype = DType::kI8}, nullptr); }),
              HasSubstr("expected F32, BF16 or F16"));
}

TEST(Int, SymmetricByHand) {
  // a = 7.5 gives scale 1: +7.5 rounds to 8 and clamps to 7, halves go to even.
  const std::vector<float> x = {7.5f, -7.5f, 0.5f, 1.5f, -2.5f, 3.0f, -0.4f, 0.0f};
  const FormatOptions o{.group_size = 8, .scale_dtype = DType::kF32};
  EXPECT_EQ(encode_decode(Format::kInt4, x, o), (std::vector<float>{7, -8, 0, 2, -2, 3, 0, 0}));
  const FormatOptions full{.group_size = 8, .scale_dtype = DType::kF32, .int_scale = IntScale::kFull};
  const std::vector<float> y = {7.0f, -7.0f, 0.5f, 6.4f, -7.0f, 3.0f, -0.4f, 0.0f};
  EXPECT_EQ(encode_decode(Format::kInt4, y, full), (std::vector<float>{7, -7, 0, 6, -7, 3, 0, 0}));
}

TEST(Int, AsymmetricByHand) {
  // Range [0, 15] with steps of 1; the stored zero point is 0 in the unsigned code space.
  const std::vector<float> x = {0.0f, 15.0f, 7.5f, 8.5f};
  const FormatOptions o{.group_size = 4, .symmetric = false, .scale_dtype = DType::kF32};
  const PackedWeight w = encode_int4(as_matrix(x, 4), o, nullptr);
  EXPECT_EQ(w.zero_points.data<uint8_t>()[0], 0);
  EXPECT_EQ(w.scales.data<float>()[0], 1.0f);
  // x / s + z = -0.5 and 0.5 around lo = -8: ties to even.
  EXPECT_EQ(decode(w), (std::vector<float>{0, 15, 8, 8}));
  const PackedWeight negative = encode_int8(as_matrix({-255.0f, 0.0f}, 2), o, nullptr);
  EXPECT_EQ(negative.zero_points.data<uint8_t>()[0], 255);
  EXPECT_EQ(decode(negative), (std::vector<float>{-255, 0}));
}

// |x - x^| <= step / 2 for every width; the symmetric half-step rule may clip by half a step at the top.
TEST(Int, ErrorStaysWithinHalfAStep) {
  for (int bits = 2; bits <= 8; ++bits)
    for (const bool symmetric : {true, false})
      for (const int64_t group : {32, 100, -1}) {
        const std::vector<float> x = gauss(3 * 250, static_cast<uint64_t>(bits));
        const FormatOptions o{.group_size = group, .symmetric = symmetric, .scale_dtype = DType::kF32};
        const PackedWeight w = encode_int(as_matrix(x, 250), bits, o, nullptr);
        check_packed(w);
        const std::vector<float> y = decode(w), s = w.scales.to_f32();
        for (size_t i = 0; i < x.size(); ++i) {
          const size_t g = (i / 250) * static_cast<size_t>(w.groups()) + (i % 250) / static_cast<size_t>(w.group_size);
          EXPECT_LE(std::fabs(x[i] - y[i]), 0.5001f * s[g]) << bits << " " << symmetric << " " << i;
        }
      }
}

TEST(Int, ElementsUseTheRoundedScale) {
  const std::vector<float> x = gauss(256, 8);
  for (const DType t : {DType::kBF16, DType::kF16}) {
    const PackedWeight w = encode_int8(as_matrix(x, 256), {.group_size = 256, .scale_dtype = t}, nullptr);
    const float s = w.scales.to_f32()[0];
    const std::vector<float> y = decode(w);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_LE(std::fabs(x[i] - y[i]), 0.51f * s + 0.5f * s * (std::fabs(x[i]) > 127 * s));
  }
}

TEST(Int, RefusesScalesBeyondF16) {
  const std::vector<float> x = {1e8f, 1.0f};
  EXPECT_THAT(message_of([&] { encode_int8(as_matrix(x, 2), {.scale_dtype = DType::kF16}, nullptr); }),
              HasSubstr("use BF16 scales"));
  EXPECT_NEAR(encode_decode(Format::kInt8, x, {.scale_dtype = DType::kBF16})[0], 1e8f, 1e6f);
  // Underflow: a scale that rounds to zero must not divide.
  const std::vector<float> tiny = {1e-9f, -1e-9f};
  EXPECT_EQ(encode_decode(Format::kInt8, tiny, {.scale_dtype = DType::kF16}), (std::vector<float>{0, 0}));
}

TEST(Fp8, ScalesPerRowGroupAndTensor) {
  const std::vector<float> x = {448, 1, 2, 3, 4.48f, 1, 2, 3};
  const FormatInfo& info = format_info(Format::kFp8);
  const FormatOptions f32{.scale_dtype = DType::kF32};
  EXPECT_EQ(info.encode(as_matrix(x, 4), f32).scales.to_f32(), (std::vector<float>{1, 0.01f}));
  FormatOptions tensor = f32;
  tensor.group_size = -2;
  EXPECT_EQ(info.encode(as_matrix(x, 4), tensor).scales.to_f32(), (std::vector<float>{1, 1}));
  FormatOptions pairs = f32;
  pairs.group_size = 3;
  EXPECT_EQ(info.encode(as_matrix(x, 4), pairs).groups(), 2);
  EXPECT_EQ(decode(info.encode(as_matrix(x, 4), tensor))[3], 3.0f);
}

TEST(NF4, NearestEntryWithTiesDown) {
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(f32_to_nf4(kNF4Table[i]), i);
  for (size_t i = 0; i + 1 < 16; ++i) {
    const double mid = 0.5 * (static_cast<double>(kNF4Table[i]) + kNF4Table[i + 1]);
    auto below = static_cast<float>(mid);
    if (below > mid) below = std::nextafter(below, -2.0f);
    EXPECT_EQ(f32_to_nf4(below), i);
    EXPECT_EQ(f32_to_nf4(std::nextafter(below, 2.0f)), i + 1);
  }
  EXPECT_EQ(f32_to_nf4(-5.0f), 0);
  EXPECT_EQ(f32_to_nf4(5.0f), 15);
  const PackedWeight zero = encode_nf4(as_matrix(std::vector<float>(4, 0.0f), 4), {}, nullptr);
  EXPECT_EQ(zero.codes.data<uint8_t>()[0], 0x77);
}

TEST(Mx, ScaleRulesByHand) {
  const auto code = [](float a, MxScale rule) { return int(mx_scale_code(a, rule, kMxE2M1)) - 127; };
  for (const float a : {4.0f, 5.0f, 6.0f, 6.9f}) {
    EXPECT_EQ(code(a, MxScale::kFloor), 0);
    EXPECT_EQ(code(a, MxScale::kEven), 0);
  }
  EXPECT_EQ(code(7.0f, MxScale::kFloor), 0);
  EXPECT_EQ(code(7.0f, MxScale::kEven), 1);
  EXPECT_EQ(code(6.0f, MxScale::kCeil), 0);
  EXPECT_EQ(code(std::nextafter(6.0f, 7.0f), MxScale::kCeil), 1);
  EXPECT_EQ(code(3.1f, MxScale::kCeil), 0);
  EXPECT_EQ(code(3.0f, MxScale::kCeil), -1);
  EXPECT_EQ(mx_scale_code(448.0f, MxScale::kCeil, kMxE4M3), 127);
  EXPECT_EQ(mx_scale_code(449.0f, MxScale::kCeil, kMxE4M3), 128);
  EXPECT_EQ(mx_scale_code(448.0f, MxScale::kFloor, kMxE4M3), 127);
  EXPECT_EQ(mx_scale_code(448.0f, MxScale::kEven, kMxE4M3), 128);
  EXPECT_EQ(mx_scale_code(0.0f, MxScale::kEven, kMxE2M1), 127);
  EXPECT_EQ(mx_scale_code(1e-45f, MxScale::kFloor, kMxE2M1), 0);
  EXPECT_EQ(mx_scale_code(3.4e38f, MxScale::kEven, kMxE2M1), 127 + 128 - 2);
}

// Scaled maxima stay in the intervals of specs/00 2.2: floor [4, 8), even [3.5, 7), ceil (3, 6].
TEST(Mx, ScaledMaximaStayInTheirIntervals) {
  Random random(11);
  for (int i = 0; i < 20000; ++i) {
    const auto a = static_cast<float>(std::ldexp(1.0 + random.uniform(), static_cast<int>(random.below(60)) - 30));
    const auto scaled = [&](MxScale rule) { return a / e8m0_to_f32(mx_scale_code(a, rule, kMxE2M1)); };
    EXPECT_TRUE(scaled(MxScale::kFloor) >= 4 && scaled(MxScale::kFloor) < 8) << a;
    EXPECT_TRUE(scaled(MxScale::kEven) >= 3.5f && scaled(MxScale::kEven) < 7) << a;
    EXPECT_TRUE(scaled(MxScale::kCeil) > 3 && scaled(MxScale::kCeil) <= 6) << a;
  }
}

TEST(Nvfp4, GlobalScaleAndZeroGroups) {
  std::vector<float> x(48, 0.0f);
  x[0] = 6.0f * 448.0f;
  x[1] = 448.0f;
  x[32] = 1e-3f;  // far below the smallest group scale
  const PackedWeight w = encode_nvfp4(as_matrix(x, 48), {}, nullptr);
  EXPECT_EQ(w.tensor_scale, 1.0f);
  EXPECT_EQ(w.scales.data<uint8_t>()[0], 0x7E);
  EXPECT_EQ(w.scales.data<uint8_t>()[1], kE4M3One);
  EXPECT_EQ(w.scales.data<uint8_t>()[2], 1);
  EXPECT_NEAR(decode(w)[32], 0.0f, 1e-3);
  EXPECT_EQ(decode(w)[1], 448.0f);
  // A fused layer's divisor: saturates the group scale instead of overflowing to NaN.
  const PackedWeight shared = encode_nvfp4(as_matrix(x, 48), {.fixed_global_scale = 1000.0f}, nullptr);
  EXPECT_EQ(shared.scales.data<uint8_t>()[0], 0x7E);
  EXPECT_EQ(shared.tensor_scale, 1.0f / 1000.0f);
  EXPECT_THROW(encode_nvfp4(as_matrix(x, 48), {.fixed_global_scale = -1.0f}, nullptr), Error);
}

// Relative squared errors of specs/00 section 4 on 2^20 samples of deviation 1, within 3 %: means over groups.
struct Headline {
  Format format;
  FormatOptions options;
  double laplace, gauss;
};

TEST(Headline, RelativeSquaredErrors) {
  const FormatOptions int4{.group_size = 32, .scale_dtype = DType::kF32, .int_scale = IntScale::kFull};
  const Headline rows[] = {{Format::kNvfp4, {}, 0.0087, 0.0090},
                           {Format::kMxfp4, {}, 0.0150, 0.0126},
                           {Format::kMxfp4, {.mx_scale = MxScale::kFloor}, 0.0156, 0.0134},
                           {Format::kMxfp4, {.mx_scale = MxScale::kCeil}, 0.0171, 0.0133},
                           {Format::kInt4, int4, 0.0141, 0.0094}};
  ThreadPool pool(2);
  const std::vector<float> g = gauss(size_t{1} << 20, 21), l = laplace(size_t{1} << 20, 22);
  for (const Headline& row : rows) {
    const FormatInfo& info = format_info(row.format);
    const auto error = [&](const std::vector<float>& x) {
      const size_t group = row.format == Format::kNvfp4 ? 16 : 32;
      return mean_group_error(x, decode(encode(info, as_matrix(x, 1024), row.options, pool)), group);
    };
    EXPECT_NEAR(error(l), row.laplace, 0.03 * row.laplace) << info.name << " laplace " << int(row.options.mx_scale);
    EXPECT_NEAR(error(g), row.gauss, 0.03 * row.gauss) << info.name << " gauss " << int(row.options.mx_scale);
  }
}

}  // namespace
}  // namespace fettle::formats
