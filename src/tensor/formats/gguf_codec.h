#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/formats/gguf_blocks.h"

// The functions behind one GGUF block type. Private to this folder.
namespace fettle::formats {

// One row of the canonical parts; absent parts are null.
template <typename Byte>
struct GgufRow {
  Byte* codes;
  Byte* scales;
  Byte* mins;
  Byte* super_scales;
  Byte* super_mins;
};
using GgufRowOut = GgufRow<uint8_t>;
using GgufRowIn = GgufRow<const uint8_t>;

struct GgufCodec {
  GgufBlock block;
  void (*unpack)(const uint8_t* blocks, size_t n, const GgufRowOut& out);  // n blocks
  void (*pack)(const GgufRowIn& in, size_t n, uint8_t* blocks);
  void (*decode)(const uint8_t* block, float* out);  // one block, reference
  void (*quantise)(const float* x, uint8_t* block);  // one block, reference; may throw kNumeric
  int (*bad_scale)(const uint8_t* block);            // null, or index of a group without a valid scale, or -1
};

// gguf_simple.cpp: types with one scale per block.
void unpack_q8_0(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_nibbles_f16(const uint8_t* blocks, size_t n, const GgufRowOut& out);  // Q4_0, IQ4_NL
void unpack_q4_1(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q5_0(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q5_1(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_mxfp4(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_nvfp4(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q1_0(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q2_0(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void pack_q8_0(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_nibbles_f16(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q4_1(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q5_0(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q5_1(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_mxfp4(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_nvfp4(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q1_0(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q2_0(const GgufRowIn& in, size_t n, uint8_t* blocks);

// gguf_k.cpp: super-blocks of 256.
void unpack_q2_k(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q3_k(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q4_k(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q5_k(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void unpack_q6_k(const uint8_t* blocks, size_t n, const GgufRowOut& out);
void pack_q2_k(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q3_k(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q4_k(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q5_k(const GgufRowIn& in, size_t n, uint8_t* blocks);
void pack_q6_k(const GgufRowIn& in, size_t n, uint8_t* blocks);

// 6-bit scales and minima of Q4_K / Q5_K in 12 bytes, 6-bit biased scales of Q3_K in 12 bytes.
void unpack_scales_k4(const uint8_t* packed, uint8_t* scales, uint8_t* mins);  // 8 each, 0..63
void pack_scales_k4(const uint8_t* scales, const uint8_t* mins, uint8_t* packed);
void unpack_scales_k3(const uint8_t* packed, int8_t* scales);  // 16, -32..31
void pack_scales_k3(const int8_t* scales, uint8_t* packed);

// gguf_decode.cpp
void decode_q8_0(const uint8_t* block, float* out);
void decode_q4_0(const uint8_t* block, float* out);
void decode_q4_1(const uint8_t* block, float* out);
void decode_q5_0(const uint8_t* block, float* out);
void decode_q5_1(const uint8_t* block, float* out);
void decode_iq4_nl(const uint8_t* block, float* out);
void decode_mxfp4(const uint8_t* block, float* out);
void decode_nvfp4(const uint8_t* block, float* out);
void decode_q1_0(const uint8_t* block, float* out);
void decode_q2_0(const uint8_t* block, float* out);
void decode_q2_k(const uint8_t* block, float* out);
void decode_q3_k(const uint8_t* block, float* out);
void decode_q4_k(const uint8_t* block, float* out);
void decode_q5_k(const uint8_t* block, float* out);
void decode_q6_k(const uint8_t* block, float* out);

// gguf_quantise.cpp, gguf_quantise_k.cpp
void quantise_q8_0(const float* x, uint8_t* block);
void quantise_q4_0(const float* x, uint8_t* block);
void quantise_q4_1(const float* x, uint8_t* block);
void quantise_q5_0(const float* x, uint8_t* block);
void quantise_q5_1(const float* x, uint8_t* block);
void quantise_iq4_nl(const float* x, uint8_t* block);
void quantise_mxfp4(const float* x, uint8_t* block);
void quantise_nvfp4(const float* x, uint8_t* block);
void quantise_q1_0(const float* x, uint8_t* block);
void quantise_q2_0(const float* x, uint8_t* block);
void quantise_q2_k(const float* x, uint8_t* block);
void quantise_q3_k(const float* x, uint8_t* block);
void quantise_q4_k(const float* x, uint8_t* block);
void quantise_q5_k(const float* x, uint8_t* block);
void quantise_q6_k(const float* x, uint8_t* block);

// Rounds a block scale to F16; throws kNumeric when it does not fit.
uint16_t block_scale_f16(float scale);

}  // namespace fettle::formats
