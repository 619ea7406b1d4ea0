#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/weight.h"

// The numbers that a quantised matrix may take: one scale (and zero point) per row and group, fixed before rounding.
// Every solver in this folder (rounding, GPTQ, Qronos, GPFQ) chooses codes on such a grid.
namespace fettle::compress {

// How the scales are chosen; x^ is the rounded value.
//   kAbsMax   the format's own rule, the same scales as `encode`
//   kMse      integer formats and NF4, FP8: range shrunk in 1 % steps to 20 %, least sum |x^ - x|^2.4
//             (llm-compressor's memoryless_mse); MXFP4, NVFP4: exhaustive, least sum (x^ - x)^2
//   kImatrix  the same search with weights importance[k] / mean and exponent 3, 5 % steps; MXFP4, NVFP4 as kHessian
//   kHessian  exhaustive, least sum importance[k] (x^ - x)^2 (specs/01 2.3(c)): NVFP4 all scale codes near the
//   maximum's
//             in alternation with the tensor scale from four starts; MXFP4, MXFP8 both exponents; integers 1.0 to 0.4
//             of the range in 1 % steps
//   kScaleEstimation  integers, from every sample's mean input: scale_estimation.h
enum class GridSearch : uint8_t { kAbsMax, kMse, kImatrix, kHessian, kScaleEstimation };

struct Grid {
  Format format = Format::kInt4;
  FormatOptions options;  // group_size resolved
  int64_t rows = 0, cols = 0, group_size = 0;
  std::vector<float> scales = {};    // [rows, groups] effective: what the stored form decodes to
  std::vector<uint8_t> zeros = {};   // [rows, groups] in the unsigned code space; empty for symmetric and float formats
  float tensor_scale = 1;            // nvfp4
  std::vector<uint8_t> stored = {};  // [rows, groups] scale codes of MXFP4, MXFP8 (E8M0) and NVFP4 (E4M3); else empty
  int bits = 0;                      // integer formats: width of a code; 0 = the format's
  std::vector<int32_t> group_of = {};  // [cols] group of a column when groups are no runs of columns (GPTQ with groups
                                       // of the processing order); empty: col / group_size

  int64_t groups() const { return (cols + group_size - 1) / group_size; }
  int64_t group(int64_t col) const { return group_of.empty() ? col / group_size : group_of[static_cast<size_t>(col)]; }
  size_t at(int64_t row, int64_t col) const { return static_cast<size_t>(row * groups() + group(col)); }
};

// Formats: int8, int4 (bits 2..8 through `bits`), int3, int2, nf4, fp8, mxfp4, mxfp8, nvfp4. importance: [K] E[x^2] or
// diag(H), not negative; empty = ones. Throws kUsage for other formats, kInput for shapes the format cannot hold and
// importance of the wrong length, kNumeric for weights or importance that are not finite. Same result for any number of
// threads.
Grid make_grid(MatView<const float> w, Format format, const FormatOptions& options, GridSearch search,
               std::span<const float> importance, ThreadPool& pool, int bits = 0);

// The scale (and zero point) of one row's group from the values in x, by the rule of kAbsMax and the tensor scale that
// the grid has: what GPTQ with dynamic groups uses. Writes element row * groups + group of the grid.
void refit_group(Grid* grid, int64_t row, int64_t group, std::span<const float> x);

// Nearest code of every weight. codes: [rows * cols], one per byte, in the format's unsigned code space: integers q +
// 2^(b-1) or q + zero, E2M1/NF4/E4M3 codes as they are.
void round_to_grid(const Grid& grid, MatView<const float> w, std::span<uint8_t> codes, ThreadPool& pool);

// What `code` stands for at (row, col); the bits that decode(pack_grid(...)) gives.
float grid_value(const Grid& grid, int64_t row, int64_t col, uint8_t code);

// out[k] = grid_value(row, k, codes[k]). codes, out: [cols].
void grid_row(const Grid& grid, int64_t row, std::span<const uint8_t> codes, std::span<float> out);

// The canonical form that tensor/formats make. Throws kUsage for grids that no format stores: scales outside the stored
// type, groups in processing order.
PackedWeight pack_grid(const Grid& grid, std::span<const uint8_t> codes);

}  // namespace fettle::compress
