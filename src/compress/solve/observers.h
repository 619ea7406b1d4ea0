#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/weight.h"

// Quantisers of other tools and products of fused kernels, so that results can be compared code by code.
namespace fettle::compress {

enum class FpQuantFormat : uint8_t { kNvfp4, kMxfp4, kFp4, kInt4, kInt4Asymmetric };
enum class Observer : uint8_t { kMinMax, kMse };

struct FpQuantResult {
  std::vector<float> scales;   // [N, K / group] effective, the global scale divided out
  std::vector<float> zeros;    // [N, K / group], asymmetric integers only
  std::vector<float> q;        // [N, K] grid values
  std::vector<float> dequant;  // [N, K]
};

// FP-Quant's `Quantizer` (IST-DASLab/FP-Quant d2e3092). kMse: 100 candidates s (1 - 0.8 i / 100) below the absmax scale
// s, error sum |x - x^|^2.4 with unrounded scales; the winner is then rounded to the scale's type. MXFP4: the floor
// rule times 4/3. group divides K (kInput otherwise).
FpQuantResult fpquant_quantise(MatView<const float> w, FpQuantFormat format, Observer observer, int64_t group);

// Scale factors in the order of block-scaled tensor-core products (QuTLASS `to_blocked`): [rows, cols] row-major, rows
// % 128 == 0, cols % 4 == 0 (kInput otherwise). Element (r, c) goes to ((r/128)(C/4) + c/4) 512 + (r%32) 16 +
// ((r%128)/32) 4 + c%4.
std::vector<uint8_t> to_blocked(std::span<const uint8_t> scales, int64_t rows, int64_t cols);

// Both operands of a 4-bit product: codes one per byte.
struct Fp4Matrix {
  Format format = Format::kNvfp4;  // or kMxfp4
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> codes;   // [rows, cols] E2M1
  std::vector<uint8_t> scales;  // [rows, cols / group] E4M3 or E8M0
  float global_scale = 1;       // nvfp4: values are code * scale / global_scale
  int64_t group() const { return format == Format::kNvfp4 ? 16 : 32; }
};

// Activations (already rotated) or weights to 4-bit floats. NVFP4: group scale codes e4m3(global * a / 6), saturating
// at 448 when a row exceeds the calibrated range; global 0: 2688 / max|x|. MXFP4: the even rule.
Fp4Matrix quantise_fp4(MatView<const float> x, Format format, float global_scale);

// Exact integer dots of doubled E2M1 values per group: [M, N, K / group], |dot| <= 144 group.
std::vector<int16_t> group_dots(const Fp4Matrix& x, const Fp4Matrix& w);

// y[M, N] = sum over groups of s_x s_w dot / 4, groups added in order in F32. kInput for operands that disagree.
std::vector<float> fp4_matmul(const Fp4Matrix& x, const Fp4Matrix& w);

}  // namespace fettle::compress
