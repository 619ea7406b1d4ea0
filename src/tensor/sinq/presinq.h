#pragma once

#include <span>
#include <vector>

#include "tensor/sinq/sinkhorn.h"

// Pre-SINQ: SINQ's column factors moved into the neighbouring layers, so that an ordinary model quantises better in any
// format at no run-time cost (specs/04 section 2.8). All changes leave the function of the block as it is.
namespace fettle::sinq {

struct FoldOptions {
  int64_t tile = 64;
  int rounds = 8;   // Sinkhorn order per tile
  int repeats = 2;  // sweeps over the block
};

// One decoder block, changed in place. Matrices are [out, in]; empty views and spans are absent.
struct FoldBlock {
  // Everything that reads the output of a norm; the first `weighed` decide the factors, routers behind them only
  // follow.
  struct Readers {
    std::span<float> norm;  // [hidden]
    std::vector<MatView<float>> matrices;
    size_t weighed = 0;
  };
  // down's input is up's output times an activation of gate, so up's rows take the factors.
  struct Expert {
    MatView<float> up, down;
    std::span<float> up_bias;
  };
  Readers attention, ffn;
  std::vector<Expert> experts;
  bool norm_plus_one = false;  // norms store factor - 1 (Gemma)
};

// Column factors of matrices stacked on their rows over the lower median of all of them: [cols]. A tile that does not
// divide the columns is replaced by the nearest divisor (the larger of two).
std::vector<float> fold_factors(std::span<const MatView<const float>> matrices, const FoldOptions& options,
                                ThreadPool* pool);

// down, then the attention's readers, then the FFN's, `repeats` times.
void fold_block(FoldBlock& block, const FoldOptions& options, ThreadPool* pool);

}  // namespace fettle::sinq
