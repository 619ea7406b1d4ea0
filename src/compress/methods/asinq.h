#pragma once

#include "compress/method.h"
#include "tensor/sinq/asinq.h"

namespace fettle::compress {

// What a calibrated search knows of a layer's inputs x.
struct InputMoments {
  MatView<const float> h;           // E[x x^T] [K, K]
  std::span<const float> mean_abs;  // E|x| [K]
};

// tr(dW H dW^T) of a rounded weight.
double output_loss(MatView<const float> w, const PackedWeight& packed, MatView<const float> h, ThreadPool& pool);

struct AsinqResult {
  PackedWeight packed;
  double loss = 0, rtn_loss = 0;  // tr(dW H dW^T)
  double alpha = 0;
  bool balanced = true;  // false: factors of 1 lost less than any others, which is rounding to nearest
};

// A-SINQ (specs/04 section 2.7): SINQ's column factors divided by a power of the activations' size, the power that
// loses least at the layer's output. Candidates are compared on at most kAsinqRows rows of W spread evenly, so that the
// search costs 20 roundings and products with H of that many rows however tall the matrix is.
//   kEffective   the winner, plain SINQ and rounding to nearest meet once more over all rows: never worse than either
//                in tr(dW H dW^T)
//   kUpstream    the winner as it is
// Column factors end in PackedWeight::input.col_scales.
constexpr size_t kAsinqRows = 512;
AsinqResult quantise_asinq(const LayerJob& job, const InputMoments& inputs, sinq::AwqRule rule);

}  // namespace fettle::compress
