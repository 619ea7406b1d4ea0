#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compress/solve/grid.h"

namespace fettle::compress {

struct GptqOptions {
  double damping = 0.01;        // added to diag(H), relative to its mean over live columns
  bool act_order = true;        // columns by descending diag(H); groups stay those of the original columns
  int64_t block = 128;          // columns between lazy updates; no influence on the result but rounding
  double absolute_damping = 0;  // added to diag(H) as it is
  bool dynamic_groups = false;  // scales recomputed from the updated weights when a group is entered
  bool permuted_groups =
      false;  // with act_order and dynamic_groups: groups of the processing order (g_idx at run time)
};

struct RoundReport {
  double objective = 0, rtn_objective = 0;  // tr(dW H dW^T) / tr(W H W^T), undamped; 0 when W H W^T is 0
  double damping_used = 0;                  // as added to diag(H)
  int retries = 0;                          // damping raised tenfold so many times
  bool fell_back_to_rtn = false;
  int64_t dead_columns = 0;  // inputs that were never active; their weights become the code of 0
  std::string note;          // what a user should know; empty when all went as asked
};

struct RoundResult {
  std::vector<uint8_t> codes;  // [rows * cols], see round_to_grid
  Grid grid;                   // as given, or with the recomputed scales of dynamic groups
  RoundReport report;
};

// GPTQ / OPTQ (arXiv 2210.17323) on a grid, with the static reordering of MR-GPTQ (arXiv 2509.23202): w [N, K], h =
// E[x x^T] [K, K] (any positive multiple gives the same codes).
//   When H + damping I cannot be factorised, damping grows tenfold up to 3 times, then weights are rounded to nearest
//   and the report says so. A result worse than rounding to nearest in tr(dW H dW^T) is kept, with a note.
// Throws kInput for shapes that disagree, kNumeric for NaN or infinity in w or h, kUsage for options that exclude each
// other. Same bits for any number of threads.
RoundResult gptq_round(MatView<const float> w, MatView<const float> h, const Grid& grid, const GptqOptions& options,
                       ThreadPool& pool);

// Rounding to nearest with the same report.
RoundResult rtn_round(MatView<const float> w, MatView<const float> h, const Grid& grid, ThreadPool& pool);

}  // namespace fettle::compress
