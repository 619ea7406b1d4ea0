// Reference decoders of GGUF blocks, written from the layout table (specs/00 2.6) element by element and independent of
// the repacking code they check. F32 operations are in ggml's order.
#include "tensor/formats/codecs.h"
#include "tensor/formats/gguf_codec.h"
#include "tensor/formats/swar.h"

namespace fettle::formats {
namespace {

float f16_at(const uint8_t* p) { return f16_to_f32(load_as<uint16_t>(p)); }

// Code of element i of 32 in 16 bytes of split nibbles.
int nibble(const uint8_t* q, size_t i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }
int fifth_bit(const uint8_t* high, size_t i) { return ((high[i / 8] >> (i % 8)) & 1) << 4; }

// Unsigned E4M3: the sign bit is ignored, 0x7F is 0, and 0xFF (which ggml does not special-case) is 480.
float ue4m3(uint8_t code) {
  if (code == 0x7F) return 0.0f;
  return code == 0xFF ? 480.0f : e4m3_to_f32(code & 0x7F);
}

}  // namespace

void decode_q8_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  for (size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

void decode_q4_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  for (size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(b + 2, i) - 8);
}

void decode_q4_1(const uint8_t* b, float* out) {
  const float d = f16_at(b), m = f16_at(b + 2);
  for (size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(b + 4, i)) + m;
}

void decode_q5_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  for (size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16);
}

void decode_q5_1(const uint8_t* b, float* out) {
  const float d = f16_at(b), m = f16_at(b + 2);
  for (size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(nibble(b + 8, i) | fifth_bit(b + 4, i)) + m;
}

void decode_iq4_nl(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  for (size_t i = 0; i < 32; ++i) out[i] = d * kIQ4NLTable[static_cast<size_t>(nibble(b + 2, i))];
}

void decode_mxfp4(const uint8_t* b, float* out) {
  const float d = e8m0_to_f32(b[0]);
  for (size_t i = 0; i < 32; ++i) out[i] = d * kE2M1Table[static_cast<size_t>(nibble(b + 1, i))];
}

void decode_nvfp4(const uint8_t* b, float* out) {
  for (size_t g = 0; g < 4; ++g) {
    const float d = ue4m3(b[g]);
    const uint8_t* q = b + 4 + 8 * g;
    for (size_t i = 0; i < 16; ++i) out[16 * g + i] = d * kE2M1Table[i < 8 ? q[i] & 15 : q[i - 8] >> 4];
  }
}

void decode_q1_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  for (size_t i = 0; i < 128; ++i) out[i] = (b[2 + i / 8] >> (i % 8)) & 1 ? d : -d;
}

void decode_q2_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  for (size_t i = 0; i < 64; ++i) out[i] = d * static_cast<float>(((b[2 + i / 4] >> (2 * (i % 4))) & 3) - 1);
}

void decode_q2_k(const uint8_t* b, float* out) {
  const float d = f16_at(b + 80), dmin = f16_at(b + 82);
  for (size_t i = 0; i < 256; ++i) {
    const size_t half = i / 128, plane = i / 32 % 4, l = i % 32;
    const int q = (b[16 + 32 * half + l] >> (2 * plane)) & 3, sc = b[i / 16] & 15, mn = b[i / 16] >> 4;
    out[i] = d * static_cast<float>(sc) * static_cast<float>(q) - dmin * static_cast<float>(mn);
  }
}

void decode_q3_k(const uint8_t* b, float* out) {
  int8_t scales[16];
  unpack_scales_k3(b + 96, scales);
  const float d = f16_at(b + 108);
  for (size_t i = 0; i < 256; ++i) {
    const size_t half = i / 128, plane = i / 32 % 4, l = i % 32;
    const int low = (b[32 + 32 * half + l] >> (2 * plane)) & 3, high = (b[l] >> (4 * half + plane)) & 1;
    out[i] = d * static_cast<float>(scales[i / 16]) * static_cast<float>(low - (high != 0 ? 0 : 4));
  }
}

void decode_q4_k(const uint8_t* b, float* out) {
  uint8_t scales[8], mins[8];
  unpack_scales_k4(b + 4, scales, mins);
  const float d = f16_at(b), dmin = f16_at(b + 2);
  for (size_t i = 0; i < 256; ++i) {
    const uint8_t byte = b[16 + 32 * (i / 64) + i % 32];
    const int q = i % 64 < 32 ? byte & 15 : byte >> 4;
    const size_t s = i / 32;
    out[i] = d * static_cast<float>(scales[s]) * static_cast<float>(q) - dmin * static_cast<float>(mins[s]);
  }
}

void decode_q5_k(const uint8_t* b, float* out) {
  uint8_t scales[8], mins[8];
  unpack_scales_k4(b + 4, scales, mins);
  const float d = f16_at(b), dmin = f16_at(b + 2);
  for (size_t i = 0; i < 256; ++i) {
    const uint8_t byte = b[48 + 32 * (i / 64) + i % 32];
    const size_t s = i / 32;
    const int q = (i % 64 < 32 ? byte & 15 : byte >> 4) | (((b[16 + i % 32] >> s) & 1) << 4);
    out[i] = d * static_cast<float>(scales[s]) * static_cast<float>(q) - dmin * static_cast<float>(mins[s]);
  }
}

void decode_q6_k(const uint8_t* b, float* out) {
  const float d = f16_at(b + 208);
  for (size_t i = 0; i < 256; ++i) {
    const size_t half = i / 128, quarter = i / 32 % 4, l = i % 32;
    const uint8_t low = b[64 * half + 32 * (quarter % 2) + l];
    const int q = ((low >> (4 * (quarter / 2))) & 15) | (((b[128 + 32 * half + l] >> (2 * quarter)) & 3) << 4);
    out[i] = d * static_cast<float>(static_cast<int8_t>(b[192 + i / 16])) * static_cast<float>(q - 32);
  }
}

}  // namespace fettle::formats
