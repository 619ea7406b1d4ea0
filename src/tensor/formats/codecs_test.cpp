#include "tensor/formats/codecs.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/random.h"

namespace fettle::formats {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// encode(decode(c)) == c for every non-NaN code; NaN codes stay NaN.
template <typename Code, typename Decode, typename Encode>
void expect_round_trip(uint32_t codes, const Decode& decode, const Encode& encode) {
  for (uint32_t c = 0; c < codes; ++c) {
    const float x = decode(static_cast<Code>(c));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(decode(encode(x)))) << c;
    } else {
      EXPECT_EQ(encode(x), static_cast<Code>(c)) << c;
    }
  }
}

TEST(Codecs, EveryCodeRoundTrips) {
  expect_round_trip<uint16_t>(65536, bf16_to_f32, f32_to_bf16);
  expect_round_trip<uint16_t>(65536, f16_to_f32, f32_to_f16);
  expect_round_trip<uint8_t>(256, e4m3_to_f32, [](float x) { return f32_to_e4m3(x); });
  expect_round_trip<uint8_t>(256, e4m3_to_f32, [](float x) { return f32_to_e4m3(x, Overflow::kSpecial); });
  expect_round_trip<uint8_t>(256, e5m2_to_f32, [](float x) { return f32_to_e5m2(x, Overflow::kSpecial); });
  expect_round_trip<uint8_t>(16, e2m1_to_f32, f32_to_e2m1);
}

// Definition by exponent and mantissa, independent of the bit tricks of the codecs.
double value_of(uint32_t code, int exponent_bits, int mantissa_bits, int bias) {
  const uint32_t e = (code >> mantissa_bits) & ((1u << exponent_bits) - 1), m = code & ((1u << mantissa_bits) - 1);
  const double magnitude = e == 0 ? std::ldexp(m, 1 - bias - mantissa_bits)
                                  : std::ldexp(m + (1u << mantissa_bits), static_cast<int>(e) - bias - mantissa_bits);
  return (code >> (exponent_bits + mantissa_bits)) & 1u ? -magnitude : magnitude;
}

TEST(Codecs, TablesFollowTheDefinition) {
  for (uint32_t c = 0; c < 256; ++c) {
    if ((c & 0x7F) != 0x7F) {
      EXPECT_EQ(e4m3_to_f32(static_cast<uint8_t>(c)), value_of(c, 4, 3, 7)) << c;
    }
    if ((c & 0x7F) < 0x7C) {
      EXPECT_EQ(e5m2_to_f32(static_cast<uint8_t>(c)), value_of(c, 5, 2, 15)) << c;
    }
    if (c < 255) {
      EXPECT_EQ(e8m0_to_f32(static_cast<uint8_t>(c)), std::ldexp(1.0, static_cast<int>(c) - 127)) << c;
    }
    if (c < 16) {
      EXPECT_EQ(e2m1_to_f32(static_cast<uint8_t>(c)), value_of(c, 2, 1, 1)) << c;
    }
  }
  for (uint32_t c = 0; c < 65536; ++c)
    if ((c & 0x7C00) != 0x7C00) {
      EXPECT_EQ(f16_to_f32(static_cast<uint16_t>(c)), value_of(c, 5, 10, 15)) << c;
    }
  EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
  EXPECT_EQ(f16_to_f32(0xFC00), -kInf);
}

// Between two neighbours the nearer wins, the midpoint goes to the even code.
template <typename Code, typename Decode, typename Encode>
void expect_nearest_even(uint32_t last, const Decode& decode, const Encode& encode) {
  for (uint32_t c = 0; c < last; ++c) {
    const float lo = decode(static_cast<Code>(c)), hi = decode(static_cast<Code>(c + 1));
    const float mid = static_cast<float>(0.5 * (static_cast<double>(lo) + hi));
    const auto even = static_cast<Code>(c % 2 == 0 ? c : c + 1);
    EXPECT_EQ(encode(mid), even) << c;
    EXPECT_EQ(encode(std::nextafter(mid, 0.0f)), static_cast<Code>(c)) << c;
    EXPECT_EQ(encode(std::nextafter(mid, kInf)), static_cast<Code>(c + 1)) << c;
  }
}

TEST(Codecs, TiesGoToEven) {
  expect_nearest_even<uint16_t>(0x7BFF, f16_to_f32, f32_to_f16);
  expect_nearest_even<uint8_t>(0x7E, e4m3_to_f32, [](float x) { return f32_to_e4m3(x, Overflow::kSpecial); });
  expect_nearest_even<uint8_t>(0x7B, e5m2_to_f32, [](float x) { return f32_to_e5m2(x, Overflow::kSpecial); });
  expect_nearest_even<uint8_t>(7, e2m1_to_f32, f32_to_e2m1);
  EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3F80);  // 1 + 2^-8: tie to even
  EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3F82);  // 1 + 3 * 2^-8: tie to even
}

TEST(Codecs, OverflowAndSpecials) {
  EXPECT_EQ(f32_to_e4m3(464.0f, Overflow::kSpecial), 0x7E);
  EXPECT_EQ(f32_to_e4m3(std::nextafter(464.0f, kInf), Overflow::kSpecial), 0x7F);
  EXPECT_EQ(f32_to_e4m3(-kInf, Overflow::kSpecial), 0xFF);
  EXPECT_EQ(f32_to_e4m3(-kInf), 0xFE);
  EXPECT_EQ(f32_to_e4m3(1e30f), 0x7E);
  EXPECT_EQ(f32_to_e5m2(61440.0f, Overflow::kSpecial), 0x7C);
  EXPECT_EQ(f32_to_e5m2(61439.0f, Overflow::kSpecial), 0x7B);
  EXPECT_EQ(f32_to_e5m2(kInf), 0x7B);
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7C00);
  EXPECT_EQ(f32_to_bf16(3.4e38f), 0x7F80);
  EXPECT_EQ(f32_to_e2m1(-1e9f), 15);
  EXPECT_EQ(f32_to_e2m1(-0.1f), 8);
  EXPECT_EQ(f32_to_e2m1(kNan) & 7, 7);
  EXPECT_EQ(f32_to_e2m1(kInf), 7);
}

TEST(Codecs, EncodersAreMonotone) {
  Random random(7);
  for (int i = 0; i < 200000; ++i) {
    // Magnitudes spread over the exponents of all formats; neighbours test the seams between the code paths.
    const auto a = static_cast<float>(std::ldexp(1.0 + random.uniform(), static_cast<int>(random.below(44)) - 27));
    const float b = std::nextafter(a, kInf);
    EXPECT_LE(f32_to_e4m3(a), f32_to_e4m3(b));
    EXPECT_LE(f32_to_e5m2(a), f32_to_e5m2(b));
    EXPECT_LE(f32_to_e2m1(a), f32_to_e2m1(b));
    EXPECT_LE(f32_to_f16(a), f32_to_f16(b));
    EXPECT_LE(f32_to_bf16(a), f32_to_bf16(b));
    EXPECT_EQ(f32_to_f16(-a), f32_to_f16(a) | 0x8000);
    EXPECT_EQ(f32_to_e4m3(-a), f32_to_e4m3(a) | 0x80);
  }
}

}  // namespace
}  // namespace fettle::formats
