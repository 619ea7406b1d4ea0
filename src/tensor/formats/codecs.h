#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

// Scalar float codecs (OCP 8-bit floating point 1.0, OCP Microscaling 1.0, IEEE 754 binary16, bfloat16). All encoders
// round to nearest, ties to even, straight from F32 (never through a narrower float), with correct subnormals. They
// rely on the default rounding mode and on denormals NOT being flushed to zero.
namespace fettle::formats {

inline uint32_t f32_bits(float x) { return std::bit_cast<uint32_t>(x); }
inline float f32_from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }

inline float bf16_to_f32(uint16_t h) { return f32_from_bits(static_cast<uint32_t>(h) << 16); }

// Overflow gives infinity; NaN stays a (quiet) NaN.
inline uint16_t f32_to_bf16(float x) {
  const uint32_t b = f32_bits(x);
  if ((b & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((b >> 16) | 0x40u);
  return static_cast<uint16_t>((b + 0x7FFFu + ((b >> 16) & 1u)) >> 16);
}

// Re-biases by a multiplication, which also normalises subnormals; exponent 31 is widened to inf / NaN afterwards.
inline float f16_to_f32(uint16_t h) {
  const uint32_t magnitude = (h & 0x7FFFu) << 13;
  uint32_t b = f32_bits(f32_from_bits(magnitude) * 0x1p112f);
  b |= magnitude >= 0x0F800000u ? 0x7F800000u : 0u;
  return f32_from_bits(b | (static_cast<uint32_t>(h & 0x8000u) << 16));
}

// 65520 and more become infinity; NaN stays a (quiet) NaN.
inline uint16_t f32_to_f16(float x) {
  const uint32_t b = f32_bits(x), m = b & 0x7FFFFFFFu;
  const auto sign = static_cast<uint16_t>((b >> 16) & 0x8000u);
  uint32_t h;
  if (m > 0x7F800000u) {
    h = 0x7E00u | ((m >> 13) & 0x3FFu);
  } else if (m >= 0x477FF000u) {
    h = 0x7C00u;
  } else if (m < 0x38800000u) {  // below 2^-14: adding 0.5 leaves a 2^-24 step in the low bits, rounded by the adder
    h = f32_bits(f32_from_bits(m) + 0.5f) - 0x3F000000u;
  } else {
    h = ((m + 0xFFFu + ((m >> 13) & 1u)) >> 13) - (112u << 10);
  }
  return static_cast<uint16_t>(sign | h);
}

enum class Overflow : uint8_t {
  kSaturate,  // largest finite value, as hardware does; our default
  kSpecial,   // NaN (E4M3) or infinity (E5M2), as a plain tensor cast does
};

inline constexpr float kE4M3Max = 448.0f, kE5M2Max = 57344.0f, kE2M1Max = 6.0f;
inline constexpr uint8_t kE4M3One = 0x38;
inline constexpr uint8_t kE8M0One = 127, kE8M0Nan = 255;

// NaN gives 0x7F with the sign. 464 ties to 448 (even); above it kSpecial gives NaN.
inline uint8_t f32_to_e4m3(float x, Overflow overflow = Overflow::kSaturate) {
  const uint32_t b = f32_bits(x), m = b & 0x7FFFFFFFu, sign = (b >> 24) & 0x80u;
  uint32_t c;
  if (m > 0x7F800000u) {
    c = 0x7Fu;
  } else if (m > 0x43E80000u) {  // 464
    c = overflow == Overflow::kSaturate ? 0x7Eu : 0x7Fu;
  } else if (m < 0x3C800000u) {  // below 2^-6: 2^14 has a 2^-9 step
    c = f32_bits(f32_from_bits(m) + 16384.0f) - 0x46800000u;
  } else {
    c = ((m + 0x7FFFFu + ((m >> 20) & 1u)) >> 20) - (120u << 3);
  }
  return static_cast<uint8_t>(sign | c);
}

// NaN gives 0x7F with the sign; from 61440 up infinity (kSpecial) or 57344.
inline uint8_t f32_to_e5m2(float x, Overflow overflow = Overflow::kSaturate) {
  const uint32_t b = f32_bits(x), m = b & 0x7FFFFFFFu, sign = (b >> 24) & 0x80u;
  uint32_t c;
  if (m > 0x7F800000u) {
    c = 0x7Fu;
  } else if (m >= 0x47700000u) {  // 61440
    c = overflow == Overflow::kSaturate ? 0x7Bu : 0x7Cu;
  } else if (m < 0x38800000u) {  // below 2^-14: 2^7 has a 2^-16 step
    c = f32_bits(f32_from_bits(m) + 128.0f) - 0x43000000u;
  } else {
    c = ((m + 0xFFFFFu + ((m >> 21) & 1u)) >> 21) - (112u << 2);
  }
  return static_cast<uint8_t>(sign | c);
}

// Saturates to 6, keeps the sign of values that round to zero (code 8 is -0), NaN gives magnitude 7 (value 6).
inline uint8_t f32_to_e2m1(float x) {
  const float a = std::fabs(x);
  const int magnitude =
      !(a <= 0.25f) + !(a < 0.75f) + !(a <= 1.25f) + !(a < 1.75f) + !(a <= 2.5f) + !(a < 3.5f) + !(a <= 5.0f);
  return static_cast<uint8_t>(static_cast<uint32_t>(magnitude) | ((f32_bits(x) >> 28) & 8u));
}

// Code 0 is 2^-127, a subnormal F32; code 255 is NaN.
inline float e8m0_to_f32(uint8_t code) {
  if (code == kE8M0Nan) return f32_from_bits(0x7FC00000u);
  return f32_from_bits(code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23);
}

namespace detail {
constexpr std::array<float, 256> make_e4m3_table() {
  std::array<float, 256> t{};
  for (uint32_t c = 0; c < 256; ++c) {
    const uint32_t sign = (c & 0x80u) << 24, e = (c >> 3) & 15u, m = c & 7u;
    if ((c & 0x7Fu) == 0x7Fu) {
      t[c] = std::bit_cast<float>(sign | 0x7FC00000u);
    } else if (e == 0) {
      const float v = static_cast<float>(m) * 0x1p-9f;
      t[c] = sign ? -v : v;
    } else {
      t[c] = std::bit_cast<float>(sign | ((e + 120u) << 23) | (m << 20));
    }
  }
  return t;
}
constexpr std::array<float, 256> make_e5m2_table() {
  std::array<float, 256> t{};
  for (uint32_t c = 0; c < 256; ++c) {
    const uint32_t sign = (c & 0x80u) << 24, e = (c >> 2) & 31u, m = c & 3u;
    if (e == 31) {
      t[c] = std::bit_cast<float>(sign | (m ? 0x7FC00000u : 0x7F800000u));
    } else if (e == 0) {
      const float v = static_cast<float>(m) * 0x1p-16f;
      t[c] = sign ? -v : v;
    } else {
      t[c] = std::bit_cast<float>(sign | ((e + 112u) << 23) | (m << 21));
    }
  }
  return t;
}
}  // namespace detail

inline constexpr std::array<float, 256> kE4M3Table = detail::make_e4m3_table();
inline constexpr std::array<float, 256> kE5M2Table = detail::make_e5m2_table();
inline constexpr std::array<float, 16> kE2M1Table = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
// NF4 (QLoRA, arXiv 2305.14314, appendix E).
inline constexpr std::array<float, 16> kNF4Table = {-1.0f,
                                                    -0.6961928009986877f,
                                                    -0.5250730514526367f,
                                                    -0.39491748809814453f,
                                                    -0.28444138169288635f,
                                                    -0.18477343022823334f,
                                                    -0.09105003625154495f,
                                                    0.0f,
                                                    0.07958029955625534f,
                                                    0.16093020141124725f,
                                                    0.24611230194568634f,
                                                    0.33791524171829224f,
                                                    0.44070982933044434f,
                                                    0.5626170039176941f,
                                                    0.7229568362236023f,
                                                    1.0f};
// IQ4_NL of GGUF.
inline constexpr std::array<float, 16> kIQ4NLTable = {-127.0f, -104.0f, -83.0f, -65.0f, -49.0f, -35.0f, -22.0f, -10.0f,
                                                      1.0f,    13.0f,   25.0f,  38.0f,  53.0f,  69.0f,  89.0f,  113.0f};

inline float e4m3_to_f32(uint8_t code) { return kE4M3Table[code]; }
inline float e5m2_to_f32(uint8_t code) { return kE5M2Table[code]; }
inline float e2m1_to_f32(uint8_t code) { return kE2M1Table[code & 15u]; }

}  // namespace fettle::formats
