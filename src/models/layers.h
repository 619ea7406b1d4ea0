#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "kernels/norm.h"
#include "kv/kv_cache.h"
#include "models/config.h"
#include "models/linear.h"

namespace fettle::models {

// Rows [first_row, first_row + n_rows) of a batch: consecutive tokens of one sequence.
struct SeqRun {
  kv::SeqId seq;
  size_t first_row, n_rows, first_pos;
};

// The tokens of one forward pass, flattened over sequences.
struct Batch {
  size_t tokens = 0;
  std::span<const SeqRun> seqs;
  MatView<const float> cos, sin;              // [tokens, rotary_dim / 2]
  MatView<const float> cos_local, sin_local;  // the same for layers with local rope; empty when no layer has it
  std::span<const uint32_t> rope_rows;        // 0, 1, ...: row t of the tables belongs to token t
  kv::KvCache* cache = nullptr;
};

// Intermediate activations, sized for the largest batch seen.
struct LayerScratch {
  AlignedBuffer<float> normed, mixed, q, k, v, attn, gate, up, router;
  AlignedBuffer<float> expert_in, expert_gate, expert_up, expert_hidden, expert_out;
  kernels::AttnScratch attention;
  std::vector<kernels::AttnSequence> attention_runs;
  kernels::MatmulScratch matmul;
};

class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(std::vector<float> weight, float eps, kernels::NormWeight kind)
      : weight_(std::move(weight)), eps_(eps), kind_(kind) {}
  void forward(MatView<const float> x, ThreadPool& pool, MatView<float> y) const;
  void forward_heads(MatView<float> x, size_t head_dim, ThreadPool& pool) const;  // in place on every head
  bool present() const { return !weight_.empty(); }
  // The stored vector; with kOnePlus the factor of channel c is 1 + weight()[c]. Compression folds scales into it.
  const std::vector<float>& weight() const { return weight_; }
  kernels::NormWeight kind() const { return kind_; }
  RmsNorm with_weight(std::vector<float> weight) const { return {std::move(weight), eps_, kind_}; }

 private:
  std::vector<float> weight_;
  float eps_ = 0;
  kernels::NormWeight kind_ = kernels::NormWeight::kPlain;
};

// A token mixer: attention today, recurrent mixers beside it. y must not alias x.
class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual void forward(MatView<const float> x, const Batch& batch, LayerScratch& s, Exec& exec,
                       MatView<float> y) const = 0;
};

// A channel mixer: dense gated FFN or mixture of experts.
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual void forward(MatView<const float> x, LayerScratch& s, Exec& exec, MatView<float> y) const = 0;
};

struct AttentionWeights {
  Linear q, k, v, o;
  Linear qkv;              // fused alternative (phi3): rows q, then k, then v
  RmsNorm q_norm, k_norm;  // per head, optional
};

class Attention : public Mixer {
 public:
  // cache_layer: where the cache keeps this layer's K and V; -1 = at `layer`.
  Attention(const ModelConfig& config, int layer, AttentionWeights weights, int cache_layer = -1);
  void forward(MatView<const float> x, const Batch& batch, LayerScratch& s, Exec& exec,
               MatView<float> y) const override;
  // The part before the output projection: attended [tokens, width()].
  void attend(MatView<const float> x, const Batch& batch, LayerScratch& s, Exec& exec, MatView<float> attended) const;
  size_t width() const { return heads_ * head_dim_; }
  const AttentionWeights& weights() const { return w_; }
  AttentionWeights& weights() { return w_; }

 private:
  void project(MatView<const float> x, Exec& exec, MatView<float> q, MatView<float> k, MatView<float> v,
               LayerScratch& s) const;

  AttentionWeights w_;
  int cache_layer_;
  size_t heads_, kv_heads_, head_dim_;
  bool interleaved_rope_, local_rope_;
  kernels::AttnParams params_;
};

struct GatedWeights {
  Linear gate, up, down;
  Linear gate_up;  // fused alternative (phi3): rows gate, then up
};

// down(act(gate x) * up x).
class GatedFeedForward : public FeedForward {
 public:
  GatedFeedForward(GatedWeights weights, Activation activation) : w_(std::move(weights)), activation_(activation) {}
  void forward(MatView<const float> x, LayerScratch& s, Exec& exec, MatView<float> y) const override;
  // The input of the down projection: h [tokens, width()].
  void hidden(MatView<const float> x, LayerScratch& s, Exec& exec, MatView<float> h) const;
  size_t width() const { return static_cast<size_t>(w_.down.in_features()); }
  const GatedWeights& weights() const { return w_; }
  GatedWeights& weights() { return w_; }

 private:
  GatedWeights w_;
  Activation activation_;
};

// Token-choice mixture of experts: softmax over all experts in F32, top-k, weights divided by their sum iff normalised
// (specs/30 2.2: mixtral, qwen3_moe). Experts run in ascending order, so a token's sum does not depend on the batch.
class MoeFeedForward : public FeedForward {
 public:
  MoeFeedForward(Linear router, std::vector<GatedWeights> experts, size_t top_k, bool normalise, Activation activation);
  void forward(MatView<const float> x, LayerScratch& s, Exec& exec, MatView<float> y) const override;

  // One row of work: `token` goes through `expert` and enters its sum with `weight`.
  struct Choice {
    uint32_t expert;
    uint32_t token;
    float weight;
  };
  // Appends the choices of all tokens, by expert, then token.
  void route(MatView<const float> x, LayerScratch& s, Exec& exec, std::vector<Choice>& choices) const;
  // Inputs of the experts' down projections, h [choices, width()], one row per choice.
  void hidden(MatView<const float> x, std::span<const Choice> choices, LayerScratch& s, Exec& exec,
              MatView<float> h) const;
  // y = sum over the choices of a token of weight * down(h row).
  void combine(MatView<const float> h, std::span<const Choice> choices, LayerScratch& s, Exec& exec,
               MatView<float> y) const;
  size_t width() const { return static_cast<size_t>(experts_.front().down.in_features()); }
  size_t top_k() const { return top_k_; }
  const std::vector<GatedWeights>& experts() const { return experts_; }
  std::vector<GatedWeights>& experts() { return experts_; }

 private:
  Linear router_;
  std::vector<GatedWeights> experts_;
  size_t top_k_;
  bool normalise_;
  Activation activation_;
};

class DecoderLayer {
 public:
  struct Norms {
    RmsNorm input, post_attention;         // Llama block
    RmsNorm attention_output, ffn_output;  // Gemma: on the sublayer outputs; absent elsewhere
  };
  DecoderLayer(Norms norms, std::unique_ptr<Mixer> mixer, std::unique_ptr<FeedForward> ffn)
      : norms_(std::move(norms)), mixer_(std::move(mixer)), ffn_(std::move(ffn)) {}
  // x: [tokens, hidden_size] f32, residual stream, updated in place.
  void forward(MatView<float> x, const Batch& batch, LayerScratch& s, Exec& exec) const;
  const Norms& norms() const { return norms_; }
  Norms& norms() { return norms_; }
  const Mixer& mixer() const { return *mixer_; }
  Mixer& mixer() { return *mixer_; }
  const FeedForward& ffn() const { return *ffn_; }
  FeedForward& ffn() { return *ffn_; }

 private:
  Norms norms_;
  std::unique_ptr<Mixer> mixer_;
  std::unique_ptr<FeedForward> ffn_;
};

}  // namespace fettle::models
