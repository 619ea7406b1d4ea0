// ggml's reference quantisers for the GGUF types with one scale per block (ggml-org/ggml d99724f2, rules in specs/00
// 2.6): byte for byte, so a file written here equals one written there.
#include <algorithm>
#include <limits>

#include "tensor/formats/codecs.h"
#include "tensor/formats/encode_common.h"
#include "tensor/formats/gguf_codec.h"
#include "tensor/formats/mx.h"
#include "tensor/formats/swar.h"

namespace fettle::formats {
namespace {

constexpr size_t kGroup = 32;

float inverse(float d) { return d != 0 ? 1.0f / d : 0.0f; }

void store_scale(float d, uint8_t* p) { store_as(p, block_scale_f16(d)); }

// First element of the largest magnitude, with its sign.
float signed_max(std::span<const float> x) {
  float best = 0, magnitude = 0;
  for (const float v : x)
    if (std::fabs(v) > magnitude) {
      magnitude = std::fabs(v);
      best = v;
    }
  return best;
}

// Nearest integer, halves away from zero, |x| < 2^31; exact (adding 0.5 first would round 0.49999997 up).
int round_away(float x) {
  const int whole = static_cast<int>(x);
  const float rest = x - static_cast<float>(whole);
  return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

void store_split(const uint8_t* codes, uint8_t* nibbles) {
  for (size_t j = 0; j < 16; ++j) nibbles[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
}

void store_fifth_bits(const uint8_t* codes, uint8_t* high) {
  uint32_t bits = 0;
  for (size_t j = 0; j < kGroup; ++j) bits |= static_cast<uint32_t>(codes[j] >> 4) << j;
  store_as(high, bits);
}

// Scale from the signed maximum, codes truncated after adding half a step above the offset.
float signed_scale_codes(const float* x, int levels, uint8_t* codes) {
  const float offset = static_cast<float>(levels / 2) + 0.5f;
  const float d = signed_max({x, kGroup}) / -static_cast<float>(levels / 2), id = inverse(d);
  for (size_t i = 0; i < kGroup; ++i)
    codes[i] = static_cast<uint8_t>(std::min(levels - 1, static_cast<int>(x[i] * id + offset)));
  return d;
}

struct Affine {
  float d, min;
};

Affine affine_codes(const float* x, int levels, uint8_t* codes) {
  const auto [low, high] = std::minmax_element(x, x + kGroup);
  const float min = *low, d = (*high - min) / static_cast<float>(levels - 1), id = inverse(d);
  for (size_t i = 0; i < kGroup; ++i)
    codes[i] = static_cast<uint8_t>(std::min(levels - 1, static_cast<int>((x[i] - min) * id + 0.5f)));
  return {d, min};
}

// Nearest E2M1 value of x / scale by |q * scale - x|: ties to the smaller magnitude, zero is code 0, scale 0 too.
uint8_t nearest_e2m1(float x, float scale) {
  constexpr float kMids[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  if (scale == 0) return 0;
  const float a = std::fabs(x);
  int magnitude = 0;
  for (const float mid : kMids) magnitude += a > mid * scale;  // exact products: few bits each
  return static_cast<uint8_t>(magnitude == 0 ? 0 : magnitude + (x < 0 ? 8 : 0));
}

// ggml's unsigned E4M3 encoder: mantissas round half up, the subnormal range stops at its last code instead of rounding
// into the normal range, and everything from 256 up becomes 448. x >= 0.
uint8_t f32_to_ue4m3_ggml(float x) {
  constexpr int kBias = 7, kTopExponent = 15;
  const uint32_t bits = f32_bits(std::min(x, kE4M3Max));
  int exponent = static_cast<int>(bits >> 23) - 127 + kBias;
  if (exponent <= 0) return static_cast<uint8_t>(std::min(7, static_cast<int>(x * 512.0f + 0.5f)));
  int mantissa = static_cast<int>((bits >> 20) & 7) + static_cast<int>((bits >> 19) & 1);
  if (mantissa > 7) {
    mantissa = 0;
    ++exponent;
  }
  return exponent >= kTopExponent ? uint8_t{0x7E} : static_cast<uint8_t>((exponent << 3) | mantissa);
}

}  // namespace

uint16_t block_scale_f16(float scale) {
  const uint16_t h = f32_to_f16(scale);
  if ((h & 0x7C00) == 0x7C00)
    fail(ErrorCode::kNumeric, "block scale {} exceeds 65504, the largest F16: use a format with BF16 or F32 scales",
         scale);
  return h;
}

void quantise_q8_0(const float* x, uint8_t* b) {
  const float d = abs_max({x, kGroup}) / 127.0f, id = inverse(d);
  store_scale(d, b);
  for (size_t i = 0; i < kGroup; ++i) b[2 + i] = static_cast<uint8_t>(round_away(x[i] * id));
}

void quantise_q4_0(const float* x, uint8_t* b) {
  uint8_t codes[kGroup];
  store_scale(signed_scale_codes(x, 16, codes), b);
  store_split(codes, b + 2);
}

void quantise_q5_0(const float* x, uint8_t* b) {
  uint8_t codes[kGroup];
  store_scale(signed_scale_codes(x, 32, codes), b);
  store_fifth_bits(codes, b + 2);
  store_split(codes, b + 6);
}

void quantise_q4_1(const float* x, uint8_t* b) {
  uint8_t codes[kGroup];
  const Affine a = affine_codes(x, 16, codes);
  store_scale(a.d, b);
  store_scale(a.min, b + 2);
  store_split(codes, b + 4);
}

void quantise_q5_1(const float* x, uint8_t* b) {
  uint8_t codes[kGroup];
  const Affine a = affine_codes(x, 32, codes);
  store_scale(a.d, b);
  store_scale(a.min, b + 2);
  store_fifth_bits(codes, b + 4);
  store_split(codes, b + 8);
}

void quantise_mxfp4(const float* x, uint8_t* b) {
  const float a = abs_max({x, kGroup});
  b[0] = a == 0 ? uint8_t{0} : mx_scale_code(a, MxScale::kFloor, kMxE2M1);
  const float scale = e8m0_to_f32(b[0]);
  uint8_t codes[kGroup];
  for (size_t i = 0; i < kGroup; ++i) codes[i] = nearest_e2m1(x[i], scale);
  store_split(codes, b + 1);
}

void quantise_nvfp4(const float* x, uint8_t* b) {
  for (size_t g = 0; g < 4; ++g, x += 16) {
    b[g] = f32_to_ue4m3_ggml(abs_max({x, 16}) / kE2M1Max);
    const float scale = e4m3_to_f32(b[g]);
    for (size_t j = 0; j < 8; ++j)
      b[4 + 8 * g + j] = static_cast<uint8_t>(nearest_e2m1(x[j], scale) | (nearest_e2m1(x[j + 8], scale) << 4));
  }
}

void quantise_q1_0(const float* x, uint8_t* b) {
  float sum = 0;
  for (size_t i = 0; i < 128; ++i) sum += std::fabs(x[i]);
  store_scale(sum / 128.0f, b);
  std::fill_n(b + 2, 16, uint8_t{0});
  for (size_t i = 0; i < 128; ++i) b[2 + i / 8] = static_cast<uint8_t>(b[2 + i / 8] | ((x[i] >= 0) << (i % 8)));
}

void quantise_q2_0(const float* x, uint8_t* b) {
  const float d = abs_max({x, 64}), id = inverse(d);
  store_scale(d, b);
  std::fill_n(b + 2, 16, uint8_t{0});
  for (size_t i = 0; i < 64; ++i) {
    const int code = std::clamp(round_away(x[i] * id) + 1, 0, 3);
    b[2 + i / 4] = static_cast<uint8_t>(b[2 + i / 4] | (code << (2 * (i % 4))));
  }
}

// One weighted least-squares step: codes from the scale that maps the signed maximum to the first table entry, then the
// scale that fits those codes best, weights x^2.
void quantise_iq4_nl(const float* x, uint8_t* b) {
  constexpr float kNegligible = 1e-15f;
  const float max = signed_max({x, kGroup});
  uint8_t codes[kGroup] = {};
  float d = 0;
  if (std::fabs(max) >= kNegligible) {
    const float id = 1.0f / (max / kIQ4NLTable[0]);
    float sum_qx = 0, sum_qq = 0;
    for (size_t i = 0; i < kGroup; ++i) {
      const float v = id * x[i];
      size_t up = 1;
      while (up < 15 && v >= kIQ4NLTable[up]) ++up;  // table[up - 1] <= v < table[up], clamped at the ends
      const size_t code = v - kIQ4NLTable[up - 1] < kIQ4NLTable[up] - v ? up - 1 : up;
      codes[i] = static_cast<uint8_t>(code);
      const float q = kIQ4NLTable[code], weight = x[i] * x[i];
      sum_qx += weight * q * x[i];
      sum_qq += weight * q * q;
    }
    d = sum_qx / sum_qq;
  }
  store_scale(d, b);
  store_split(codes, b + 2);
}

}  // namespace fettle::formats
