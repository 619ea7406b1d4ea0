#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compress/pipeline/stream_store.h"
#include "models/block.h"

namespace fettle::compress {

// Sequences that run through the blocks of one model, and what running them needs. `x` is the residual stream in front
// of the current block.
class Stream {
 public:
  Stream(models::BlockModel& model, const std::vector<std::vector<int32_t>>& samples, const std::string& spill_dir,
         ThreadPool& pool);

  models::BlockModel& model() { return model_; }
  ThreadPool& pool() { return pool_; }
  size_t samples() const { return tokens_.size(); }
  size_t tokens(size_t i) const { return tokens_[i].size(); }
  StreamStore& x() { return x_; }
  models::LayerScratch& scratch() { return scratch_; }
  models::Exec exec() { return {pool_, scratch_.matmul, kernels::ActMode::kA16, observer}; }
  // Calls body with the batch of sample i on an empty cache for `block`.
  void with_batch(int block, size_t i, const std::function<void(const models::Batch&)>& body);
  StreamStore store(const models::Block& block, models::Stage stage) const;
  // x of every sample <- block(x).
  void forward(const models::Block& block);

  models::LayerObserver* observer = nullptr;  // sees every product of this stream

 private:
  models::BlockModel& model_;
  const std::vector<std::vector<int32_t>>& tokens_;
  std::string spill_dir_;
  ThreadPool& pool_;
  StreamStore x_;
  models::LayerScratch scratch_;
  std::shared_ptr<models::ForwardScratch> forward_scratch_;
};

// The inputs I of one stage, sample by sample.
struct StageInput {
  size_t sample;
  MatView<const float> rows;     // [rows, width]
  const models::Routes& routes;  // of the tokens, sparse blocks only; rows of kFfnOut are in this order
};

// One block of one stream, cut where its linear layers read (specs/08b 2.1): weights of a stage may be replaced after
// its inputs were visited and before advance() goes on. Between stages only one tensor per sample is stored, so that
// every product of the block runs once.
//   for each stage: advance(stage); visit(stage, ...) any number of times; replace weights of the stage
//   finish()
class BlockPass {
 public:
  enum class Mode : uint8_t {
    kSegments,  // each product once
    kNaive,     // every visit starts at the front of the block: the definition, for tests
  };
  BlockPass(Stream& stream, const models::Block& block, Mode mode = Mode::kSegments);

  void advance(models::Stage stage);
  void visit(models::Stage stage, const std::function<void(const StageInput&)>& body);
  // Input of sample i alone, kept until the next call. With `routes`, rows of kFfnOut are computed for these choices
  // instead of the stream's own.
  MatView<const float> input(models::Stage stage, size_t i, const models::Routes* routes = nullptr);
  models::Routes routes(size_t i);
  void finish();  // x <- the block's output

 private:
  MatView<float> normed(models::Stage stage, MatView<const float> x);
  MatView<const float> naive_input(models::Stage stage, size_t i);

  Stream& stream_;
  const models::Block& block_;
  Mode mode_;
  std::optional<StreamStore> hidden_;  // I of kAttentionOut or kFfnOut
  AlignedBuffer<float> normed_, extra_, x_;
};

}  // namespace fettle::compress
