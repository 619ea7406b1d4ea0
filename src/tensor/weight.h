#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace fettle {

class ThreadPool;

// Weight formats. One file in tensor/formats/ and one registry line each.
enum class Format : uint8_t {
  kF32,
  kF16,
  kBF16,  // dense
  kFp8,   // F8_E4M3 codes with scales
  kInt8,
  kInt4,
  kInt3,
  kInt2,  // integer groups, symmetric or with zero points
  kNF4,
  kMxfp4,
  kMxfp8,
  kNvfp4,  // 4-bit and 8-bit float groups
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,  // GGUF block types
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kQ1_0,
  kQ2_0,  // GGUF sign and ternary-plus-one blocks
  kFx3,   // lossless BF16 at a fixed rate (tensor/formats/fx3.h)
};

// How one code becomes a number before scales are applied.
enum class CodeKind : uint8_t {
  kDense,       // codes are the values, in the tensor's dtype
  kSigned8,     // int8
  kOffset,      // unsigned code - code_offset (int4: 8; GGUF types as they define)
  kTable16,     // 16-entry table (NF4, E2M1, IQ4_NL)
  kE4M3,        // fp8
  kBF16Planes,  // FX3: indices of high bytes, low bytes (tensor/formats/fx3.h)
};

// What happens to activations before the product with the stored codes, applied by every kernel once per input:
//   x' = (x * col_scales) . blockdiag(M), y = x' . stored^T, which makes the weight
//   W = stored . blockdiag(M^T) . diag(col_scales)
struct InputTransform {
  Tensor col_scales;     // empty, or F32 [K], finite: SINQ's second scale (arXiv 2509.22944)
  int64_t hadamard = 0;  // k > 1: M = the Sylvester-Hadamard matrix of size k / sqrt(k); a power of two dividing K
  Tensor rotation;       // empty, or F32 [k, k], k dividing K: any other M; excludes hadamard

  bool present() const { return !col_scales.is_empty() || hadamard > 1 || !rotation.is_empty(); }
  size_t bytes() const { return col_scales.nbytes() + rotation.nbytes(); }
};

// A weight matrix [rows N, cols K] in one format, in the canonical layout every reader produces and every kernel
// preparation consumes, whatever the file looked like:
//   x[n,k] = tensor_scale * (value(code[n,k]) * S[n,g] + M[n,g]),   g = k / group_size
//   S = scales (as F32), or for K-quants scales * super_scales[n, k / 256]
//   M = 0, or mins (F16/F32), or for K-quants -(mins * super_mins[n, k / 256])
// Zero points are in the unsigned code space and replace code_offset where present: value(code) = code - zero.
struct PackedWeight {
  Format format = Format::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t group_size = 0;  // along K; cols = one group per row; 0 for dense
  Tensor codes;   // dense: [N,K]; 8-bit: I8, U8 or F8_E4M3 [N,K]; up to 4 bits: U8 [N, ceil(K/2)], 2j in the low nibble
                  // (odd K: last high nibble 0). Int8 with zero points: U8 codes (q + 128)
  Tensor scales;  // [N, G] F32|BF16|F16|F8_E8M0|F8_E4M3, or U8|I8 with super_scales; G = ceil(K/group)
  Tensor zero_points;   // empty, or U8 [N, G]
  Tensor mins;          // empty, or [N, G] F32|F16 (GGUF types; integer and NF4 groups with fractional zero points), or
                        // U8 with super_mins
  Tensor super_scales;  // empty, or F16 [N, ceil(K/256)]
  Tensor super_mins;    // empty, or F16 [N, ceil(K/256)]
  float tensor_scale = 1.0f;
  InputTransform input;  // decode() undoes it: it returns the weight that multiplies plain activations
  // FX3 only, whose codes are U8 [N, 96 * ceil(K/64)]:
  Tensor high_tables;       // U8 [ceil(N/96), 16]
  Tensor exception_starts;  // U32 [N + 1], index of the first exception of every row, then E
  Tensor exception_cols;    // U32 [E], ascending in a row
  Tensor exception_highs;   // U8 [E], their high bytes

  int64_t groups() const { return group_size > 0 ? (cols + group_size - 1) / group_size : 0; }
  size_t bytes() const;            // exact, all parts, as held in memory
  double bits_per_weight() const;  // 8 * bytes / (rows * cols)
  // What the weight costs in a file of its own kind: GGUF types whose codes are widened in memory (Q5_*, Q2_K, Q3_K,
  // Q5_K, Q6_K, Q1_0, Q2_0) count their blocks, int2 and int3 their dense bits, everything else equals bytes().
  size_t file_bytes() const;
  double file_bits_per_weight() const;
};

// Choices of the MX shared exponent (specs/00 2.2): even is our default.
enum class MxScale : uint8_t { kEven, kFloor, kCeil };

// Scale of symmetric b-bit integers (specs/00 2.2), a = max |x| of the group.
enum class IntScale : uint8_t {
  kHalfStep,  // a / ((2^b - 1) / 2), codes -2^(b-1) .. 2^(b-1)-1: compressed-tensors, our default
  kFull,      // a / (2^(b-1) - 1), codes -(2^(b-1)-1) .. 2^(b-1)-1: the extreme is exact
};

struct FormatOptions {
  int64_t group_size = 0;  // 0 = the format's default; -1 = one group per row; -2 = one scale per tensor (fp8)
  bool symmetric = true;   // integer formats
  DType scale_dtype = DType::kBF16;  // integer and NF4 formats: F32, BF16 or F16
  IntScale int_scale = IntScale::kHalfStep;
  MxScale mx_scale = MxScale::kEven;
  float fixed_global_scale = 0;  // nvfp4: this divisor instead of 448*6/max|W| (fused layers share one); 0 = compute
};

struct FormatInfo {
  Format format;
  std::string_view name;  // CLI and report name: "int4", "nvfp4", "q4_k"
  std::string_view summary;
  int code_bits;  // 4, 8, 16, 32 (canonical storage)
  CodeKind kind;
  int code_offset;        // kOffset
  const float* table;     // kTable16: 16 values
  int64_t default_group;  // 0 dense, -1 one group per row
  double gguf_bits;       // bits per weight of the GGUF block type; 0 for other formats
  // Quantises row-major w. Null for formats that are only read. Throws kInput for shapes the format cannot hold and
  // kNumeric for non-finite weights.
  PackedWeight (*encode)(MatView<const float> w, const FormatOptions& options);
  // The same bytes with rows spread over the pool (null: this thread only).
  PackedWeight (*encode_pool)(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);
};

std::span<const FormatInfo> all_formats();
const FormatInfo& format_info(Format format);
const FormatInfo* find_format(std::string_view name);

// Quantises with the pool; identical bytes for any number of threads. Throws kUsage when the format is only read, else
// as FormatInfo::encode.
PackedWeight encode(const FormatInfo& info, MatView<const float> w, const FormatOptions& options, ThreadPool& pool);

// Scalar references that define every format: one row, or the whole matrix, to F32.
void decode_row(const PackedWeight& w, int64_t row, std::span<float> out);  // out: [cols]
// The same without undoing the input transform: what the kernels multiply transformed activations with.
void decode_stored_row(const PackedWeight& w, int64_t row, std::span<float> out);
std::vector<float> decode(const PackedWeight& w);  // [rows * cols]
// Throws kInternal unless shapes and dtypes of all parts agree with format, rows, cols and group size.
void check_packed(const PackedWeight& w);
// Wraps a dense [N,K] F32/F16/BF16 tensor without copying; kInput for other types and ranks.
PackedWeight dense_weight(const Tensor& t);

}  // namespace fettle
