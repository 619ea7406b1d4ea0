#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tensor/weight.h"

// GGUF block types (specs/00 2.6; ggml-org/ggml d99724f2, src/ggml-common.h) to and from the canonical PackedWeight:
// codes are only moved, never re-quantised.
namespace fettle::formats {

// ggml type ids that can be held.
namespace ggml {
inline constexpr uint32_t kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ5_0 = 6, kQ5_1 = 7, kQ8_0 = 8, kQ2_K = 10,
                          kQ3_K = 11, kQ4_K = 12, kQ5_K = 13, kQ6_K = 14, kIQ4_NL = 20, kBF16 = 30, kMxfp4 = 39,
                          kNvfp4 = 40, kQ1_0 = 41, kQ2_0 = 42;
}

// Geometry of a type; bytes of a row = cols / elements * bytes.
struct GgufBlock {
  uint32_t ggml_type;
  std::string_view name;  // as ggml prints it: "q4_K"
  Format format;          // what it becomes
  uint32_t elements, bytes;
};

std::span<const GgufBlock> gguf_blocks();
const GgufBlock* find_gguf_block(uint32_t ggml_type);  // nullptr when the type cannot be held
const GgufBlock* find_gguf_block(Format format);       // nullptr for formats without a GGUF type

// Rows of raw blocks to the canonical layout. bytes: exactly rows * row bytes, any alignment. One streaming pass, rows
// spread over the pool (null: this thread). Dense types are copied (dense_weight() wraps them without).
// Throws kInput for a type that cannot be held, cols that are no multiple of the block, a wrong byte count, and scale
// bytes without a value (MXFP4 0xFF, NVFP4 0xFF), naming row and group.
// NVFP4: ggml ignores the sign bit of a scale and reads 0x7F as 0; the canonical scale says so explicitly. The tensor's
// ".scale" companion goes to tensor_scale by the caller.
PackedWeight from_gguf_blocks(uint32_t ggml_type, int64_t rows, int64_t cols, std::span<const std::byte> bytes,
                              ThreadPool* pool = nullptr);

// The inverse, byte for byte. tensor_scale is not part of the blocks (NVFP4 keeps it in a tensor of its own). Throws
// kInput when the format has no GGUF type, cols is no multiple of the block, or an NVFP4 scale is negative or NaN.
std::vector<std::byte> to_gguf_blocks(const PackedWeight& w, ThreadPool* pool = nullptr);

// Reference decoder of one row straight from the blocks, in ggml's order of F32 operations: out.size() elements, a
// multiple of the block. Throws kInput for a type that cannot be held.
void decode_gguf_row(uint32_t ggml_type, const std::byte* blocks, std::span<float> out);

// Reference quantisers of ggml (quantize_row_*_ref) for every block type: w to raw blocks. MXFP4 uses ggml's floor rule
// with ties to the smaller magnitude; NVFP4 has no tensor scale and ggml's coarse scale rounding (quality
// exports go through Format::kNvfp4 and to_gguf_blocks instead). Throws kInput for a type that cannot be held or cols
// that do not fit, kNumeric for non-finite weights and for scales beyond F16.
std::vector<std::byte> quantise_gguf(uint32_t ggml_type, MatView<const float> w, ThreadPool* pool = nullptr);

// The same, as a canonical weight.
PackedWeight encode_gguf(uint32_t ggml_type, MatView<const float> w, ThreadPool* pool = nullptr);

}  // namespace fettle::formats
