#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/sinq/sinkhorn.h"

// SINQ with its own roundings and parameters (specs/04 sections 2.3 to 2.5, huawei-csl/SINQ 6930f78). Checkpoints of
// that tool are read into this form; our own files store the column factors beside an ordinary weight format instead.
namespace fettle::sinq {

enum class Rounding : uint8_t {
  kAsymmetric,  // s = (max - min) / qmax, integer zero point that may lie outside the codes
  kNoZero,      // symmetric, codes 0 .. 2^b - 2 around 2^(b-1) - 1; b >= 3
  kNf4,
  kNf3,  // nearest table entry of (w - mean) / max|w - mean|
  kHqq,  // half-quadratic zero points (p 0.7, beta 10, 20 rounds); codes rounded again with the best zero point
};

struct Options {
  int bits = 4;  // 2..8; ignored for the tables
  Rounding rounding = Rounding::kAsymmetric;
  int64_t tile = 64;
  bool square_tiles = false;  // 2D tiling: tiles of tile x tile, else whole columns strips
  bool balance = true;        // off: plain RTN, factors of 1
  double kurtosis_gate = 0;   // > 0: matrices with a larger kurtosis are not balanced (upstream: 5)
  SinkhornOptions sinkhorn;
};

// W[o,k] = (value(code[o,k]) - zero[o,t]) * scale[o,t] * col[p,k], t = k / tile, p = o / panel.
struct Quantised {
  int64_t rows = 0, cols = 0, tile = 0, panel = 0;  // panel: rows that share column factors; rows for strips
  int bits = 4;
  Rounding rounding = Rounding::kAsymmetric;
  std::vector<uint8_t> codes;  // [rows, cols]
  std::vector<float> scale;    // s1 [rows, tiles]
  std::vector<float> zero;     // [rows, tiles]
  std::vector<float> col;      // s2 [panels, cols]
  bool balanced = true;        // the kurtosis gate may have said no

  int64_t tiles() const { return (cols + tile - 1) / tile; }
};

// Throws kUsage for bits the rounding does not have. The result does not depend on the pool.
Quantised quantise(MatView<const float> w, const Options& options, ThreadPool* pool);
std::vector<float> dequantise(const Quantised& q);  // [rows * cols]

// Rounds one balanced tile: codes [h, w], scale and zero [h], before the row factor.
void round_tile(MatView<const float> tile, Rounding rounding, int bits, MatView<uint8_t> codes, float* scale,
                float* zero);

// Values of the codes before zero and scale: the code itself or a table entry.
const float* table_of(Rounding rounding);  // null for integers

// 8-bit auxiliary quantisation of scales and zero points ("quantAux"): v as [n, v.size() / n], one range per column.
// A constant column stores 0 with a step of 0 (upstream gives NaN).
struct Aux {
  size_t n = 0;
  std::vector<uint8_t> x;         // [n, groups]
  std::vector<float> step, base;  // [groups]
};
Aux quantise_aux(std::span<const float> v, size_t n);  // n divides v.size()
std::vector<float> dequantise_aux(const Aux& aux);
// Replaces scales (32 values per range; left alone when their count is no multiple of 32) and zero points (one range)
// by what 8 bits keep of them.
void apply_aux(Quantised& q);

}  // namespace fettle::sinq
