#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/layers.h"
#include "models/model.h"

// Decoder blocks one at a time and cut where their linear layers read, for work that changes weights as it goes
// (calibrated compression). The pieces call the same code as DecoderLayer::forward, so their composition has its bits.
namespace fettle::models {

// The four places of a block where linear layers read their input I:
//   kAttentionIn:  q, k, v          I = norm(x)
//   kAttentionOut: o                I = attention(q, k, v)
//   kFfnIn:        gate, up         I = norm(x); experts read the rows routed to them
//   kFfnOut:       down             I = act(gate) * up, one row per token, or per (expert, token) choice
enum class Stage : uint8_t { kAttentionIn, kAttentionOut, kFfnIn, kFfnOut };
inline constexpr Stage kStages[] = {Stage::kAttentionIn, Stage::kAttentionOut, Stage::kFfnIn, Stage::kFfnOut};
std::string_view stage_name(Stage stage);

struct BlockLinear {
  std::string module;  // Hugging Face name, "model.layers.3.mlp.experts.0.up_proj"
  Linear* linear = nullptr;
  Stage stage = Stage::kAttentionIn;
  int expert = -1;  // -1: reads every token
};

// Which rows of a stage's input belong to which expert; empty for dense blocks.
using Routes = std::vector<MoeFeedForward::Choice>;

class Block {
 public:
  Block(int index, DecoderLayer layer);

  int index() const { return index_; }
  bool sparse() const { return moe_ != nullptr; }
  size_t experts() const { return moe_ ? moe_->experts().size() : 0; }
  // All linear layers but the router, in the order of the stages. Pointers live as long as the block; assigning to
  // *linear replaces the weight.
  const std::vector<BlockLinear>& linears() const { return linears_; }
  // The norm whose output a stage reads (kAttentionIn or kFfnIn), and its tensor name.
  RmsNorm& input_norm(Stage stage);
  std::string input_norm_name(Stage stage) const;

  size_t width(Stage stage) const;                // columns of I
  size_t rows(Stage stage, size_t tokens) const;  // rows of I

  // I of kAttentionIn or kFfnIn from the residual stream x [tokens, hidden].
  void normed(Stage stage, MatView<const float> x, ThreadPool& pool, MatView<float> input) const;
  // Choices of the tokens whose normed rows are `input`; empty for dense blocks.
  Routes routes(MatView<const float> input, LayerScratch& s, Exec& exec) const;
  // I of kAttentionOut from I of kAttentionIn. K and V go to cache layer 0.
  void attend(MatView<const float> input, const Batch& batch, LayerScratch& s, Exec& exec, MatView<float> out) const;
  // I of kFfnOut from I of kFfnIn.
  void ffn_hidden(MatView<const float> input, const Routes& routes, LayerScratch& s, Exec& exec,
                  MatView<float> out) const;
  // x += the sublayer's output: `stage` is kAttentionOut or kFfnOut, `input` its I.
  void add_output(Stage stage, MatView<const float> input, const Routes& routes, LayerScratch& s, Exec& exec,
                  MatView<float> x) const;
  // The block whole.
  void forward(MatView<float> x, const Batch& batch, LayerScratch& s, Exec& exec) const {
    layer_.forward(x, batch, s, exec);
  }

 private:
  void list_linears();

  int index_;
  DecoderLayer layer_;
  Attention* attention_;
  GatedFeedForward* dense_ = nullptr;  // one of the two
  MoeFeedForward* moe_ = nullptr;
  std::vector<BlockLinear> linears_;
};

// A checkpoint whose blocks are mapped and prepared one at a time. Reads the same files as Model::load.
class BlockModel {
 public:
  // `model`: directory in Hugging Face layout. Throws as Model::load.
  static std::unique_ptr<BlockModel> open(const std::string& model, const LoadOptions& options, ThreadPool& pool);
  virtual ~BlockModel() = default;

  virtual const ModelConfig& config() const = 0;
  virtual Block block(int index) = 0;
  virtual std::string stored_name(std::string_view module) const = 0;  // see WeightSource
  // Cache of one layer for block `index`, F32.
  virtual kv::KvLayout kv_layout(int index) const = 0;
  // Residual stream before block 0: x [tokens, hidden]. kUsage for ids outside the vocabulary.
  virtual void embed(std::span<const int32_t> tokens, MatView<float> x) const = 0;
  // Positions and rotary tables of one run; room must have been reserved. Valid until the next call with `s`.
  virtual Batch begin(const SeqTokens& run, kv::KvCache& cache, ForwardScratch& s) const = 0;
};

}  // namespace fettle::models
