#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress/pipeline/block_pass.h"
#include "compress/solve/hessian.h"

namespace fettle::compress {

// Second moments of the inputs that some linear layers share: H = E[x x^T] of the quantised stream, and for methods
// that need them G = E[x_float x^T] and E|x|.
struct InputStats {
  int expert = -1;  // -1: rows of all tokens
  HessianAccumulator h;
  std::optional<CrossAccumulator> g;
  std::vector<float> means = {};  // [samples that reached the layers, K]: each sample's mean over its rows
  size_t width;
  std::vector<double> abs_sum;  // [K] of the rows so far, or empty
  InputStats(int expert_index, int64_t columns, bool cross, bool magnitudes)
      : expert(expert_index),
        h(columns),
        width(static_cast<size_t>(columns)),
        abs_sum(magnitudes ? static_cast<size_t>(columns) : 0) {
    if (cross) g.emplace(columns);
  }
  MatView<const float> mean_rows() const { return {means.data(), means.size() / width, width}; }
  std::vector<float> mean_abs() const;  // [K], or empty
  int64_t tokens() const { return h.tokens(); }
};

// Rows of a stage that reach each expert, over all samples.
std::vector<int64_t> count_expert_rows(BlockPass& pass, size_t samples, size_t experts);

// Fills `stats` in one visit of the stage. float_pass: the same block of the float stream, advanced as far; null unless
// cross moments are wanted. Throws kNumeric naming block, sample and token for a non-finite activation.
void collect(BlockPass& pass, BlockPass* float_pass, int block, models::Stage stage, std::span<InputStats* const> stats,
             ThreadPool& pool);

}  // namespace fettle::compress
