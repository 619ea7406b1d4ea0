#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compress/pipeline/block_pass.h"
#include "compress/pipeline/pipeline.h"
#include "io/checkpoint.h"

// Scaling of input channels before rounding (AWQ, SmoothQuant), folded so that the block computes the same function:
// what produces a channel is divided by s, the columns that read it are multiplied by s.
namespace fettle::compress {

// What one stage's inputs were divided by.
struct StageScales {
  std::vector<float> scales = {};  // [K]; empty: not scaled
  std::vector<float> rows = {};    // [tokens, K] inputs after scaling, for the clip search; AWQ only
  size_t tokens = 0;
  std::string note = {};  // for the report
  MatView<const float> sample() const { return {rows.data(), tokens, tokens > 0 ? rows.size() / tokens : 0}; }
};
using BlockScales = std::map<models::Stage, StageScales>;

struct SmoothingJob {
  const PipelineOptions& options;
  Stream& stream;  // in front of the block
  models::Block& block;
  models::Block* float_block;  // the float stream's copy, which gets the same folds; null without one
  std::function<const LayerPlan*(const std::string& module)> plan_of;
  std::function<std::string(const std::string& name)> stored_name;
  const io::TensorSource& source;
};

// Chooses and folds the scales of one block by options.smoothing:
//   kSmoothQuant  norms in front of q, k, v and of gate, up; factors from the extremes of all calibration tokens
//   kAwq          those, then v -> o (not under grouped queries) and up -> down, in that order on about 2048 tokens.
//                 The loss is the squared error of the attention or feed-forward output, of the layer's own output for
//                 o and down
// Norms are rounded to their stored type and the columns take up the rest, so that only F32 round-off is lost; the
// stored norms are added to `replaced`. Skipped with a note: norms that a router or a dense layer reads as well.
BlockScales smooth_block(const SmoothingJob& job, std::map<std::string, Tensor>* replaced);

}  // namespace fettle::compress
