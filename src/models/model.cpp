#include "models/model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/log.h"
#include "io/model_files.h"
#include "kernels/elementwise.h"
#include "models/block.h"
#include "models/layers.h"
#include "models/rope.h"
#include "models/weight_source.h"
#include "tensor/formats/fx3.h"

namespace fettle::models {

struct ForwardScratch {
  LayerScratch layers;
  std::vector<int32_t> tokens;
  std::vector<SeqRun> seqs;
  std::vector<uint32_t> rope_rows;
  AlignedBuffer<float> hidden, picked, logits;
  AlignedBuffer<float> cos, sin, cos_local, sin_local;
};

std::shared_ptr<ForwardScratch> make_scratch() { return std::make_shared<ForwardScratch>(); }

namespace {

class DecoderModel final : public Model {
 public:
  enum class Layers : uint8_t { kAll, kNone };
  DecoderModel(WeightSource& source, const LoadOptions& options, ThreadPool& pool, Layers layers = Layers::kAll);

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorSummary>& tensors() const override { return tensors_; }
  size_t weight_bytes() const override { return weight_bytes_; }
  int64_t parameters() const override { return parameters_; }
  kv::KvLayout kv_layout(DType kv_dtype) const override;
  MatView<const float> forward(std::span<const SeqTokens> batch, LogitRows rows, kv::KvCache& cache,
                               ForwardScratch& scratch, ThreadPool& pool) const override;

 private:
  friend class Builder;
  friend class BlockReader;
  Batch begin_batch(std::span<const SeqTokens> batch, kv::KvCache& cache, ForwardScratch& s) const;
  void fill_rope(const RopeTable& table, const Batch& batch, AlignedBuffer<float>& cos,
                 AlignedBuffer<float>& sin) const;
  void embed(std::span<const int32_t> tokens, MatView<float> x) const;
  MatView<const float> output_logits(MatView<const float> x, const Batch& batch, LogitRows rows, ForwardScratch& s,
                                     Exec& exec) const;

  ModelConfig config_;
  kernels::ActMode activations_;
  kernels::PreparedWeight embedding_;
  std::vector<DecoderLayer> layers_;
  RmsNorm final_norm_;
  Linear lm_head_;  // empty when tied: the embedding matrix serves
  std::unique_ptr<RopeTable> rope_, rope_local_;
  std::vector<TensorSummary> tensors_;
  size_t weight_bytes_ = 0;
  int64_t parameters_ = 0;
};

// Reads one layer after the other from a WeightSource.
class Builder {
 public:
  Builder(DecoderModel& model, WeightSource& source, const LoadOptions& options, ThreadPool& pool)
      : model_(model), source_(source), options_(options), pool_(pool), config_(model.config_) {}

  void build();
  // Everything outside the layers that their inputs need: embedding and rotary tables.
  void build_embedding();
  // Layer `index` with its K and V at cache layer `cache_layer`.
  DecoderLayer layer(int index, int cache_layer);

 private:
  PackedWeight resident(PackedWeight w);
  kernels::PreparedWeight prepare(PackedWeight packed, const std::string& name);
  Linear linear(const std::string& module, int64_t rows, int64_t cols, bool bias);
  RmsNorm norm(const std::string& tensor, int64_t n);
  std::unique_ptr<Mixer> attention(const std::string& prefix, int layer, int cache_layer);
  std::unique_ptr<FeedForward> dense_ffn(const std::string& prefix);
  std::unique_ptr<FeedForward> moe_ffn(const std::string& prefix);

  DecoderModel& model_;
  WeightSource& source_;
  const LoadOptions& options_;
  ThreadPool& pool_;
  const ModelConfig& config_;
};

// BF16 weights in the form they stay in memory.
PackedWeight Builder::resident(PackedWeight w) {
  const bool pack =
      options_.residency == Residency::kFx3 || (options_.residency == Residency::kAuto && source_.lossless_packed());
  if (w.format == Format::kBF16 && pack) {
    PackedWeight packed = formats::fx3_from_bf16(w.codes, &pool_);
    return packed.bytes() < w.bytes() ? packed : w;
  }
  if (w.format == Format::kFx3 && options_.residency == Residency::kBf16)
    return dense_weight(formats::fx3_to_bf16(w, &pool_));
  return w;
}

kernels::PreparedWeight Builder::prepare(PackedWeight packed, const std::string& name) {
  model_.tensors_.push_back(
      {name, std::string(format_info(packed.format).name), {packed.rows, packed.cols}, packed.bytes()});
  model_.parameters_ += packed.rows * packed.cols;
  kernels::PreparedWeight prepared = kernels::prepare(resident(std::move(packed)), pool_);
  model_.weight_bytes_ += prepared.bytes();
  return prepared;
}

Linear Builder::linear(const std::string& module, int64_t rows, int64_t cols, bool bias) {
  kernels::PreparedWeight weight = prepare(source_.matrix(module, rows, cols), module + ".weight");
  if (!weight.zero_copy()) source_.release(module);
  std::vector<float> b;
  if (bias) b = source_.vector(module + ".bias", rows);
  return Linear(std::move(weight), std::move(b));
}

RmsNorm Builder::norm(const std::string& tensor, int64_t n) {
  std::vector<float> w = source_.vector(tensor, n);
  model_.tensors_.push_back({tensor, "f32", {n}, static_cast<size_t>(n) * sizeof(float)});
  model_.parameters_ += n;
  for (size_t i = 0; i < w.size(); ++i)
    if (!std::isfinite(w[i]) && !options_.allow_nonfinite)
      fail(ErrorCode::kNumeric, "{}: tensor \"{}\": element {} is {}", source_.place(), tensor, i, w[i]);
  const bool one_plus = config_.norm_plus_one && !source_.norms_have_one_added();
  return RmsNorm(std::move(w), static_cast<float>(config_.rms_norm_eps),
                 one_plus ? kernels::NormWeight::kOnePlus : kernels::NormWeight::kPlain);
}

std::unique_ptr<Mixer> Builder::attention(const std::string& prefix, int layer, int cache_layer) {
  const int64_t hidden = config_.hidden_size, q = config_.q_dim(), kv = config_.kv_dim();
  AttentionWeights w;
  if (config_.fused_qkv && source_.has(prefix + "qkv_proj")) {
    w.qkv = linear(prefix + "qkv_proj", q + 2 * kv, hidden, config_.qkv_bias);
  } else {
    w.q = linear(prefix + "q_proj", q, hidden, config_.qkv_bias);
    w.k = linear(prefix + "k_proj", kv, hidden, config_.qkv_bias);
    w.v = linear(prefix + "v_proj", kv, hidden, config_.qkv_bias);
  }
  w.o = linear(prefix + "o_proj", hidden, q, config_.o_bias);
  if (config_.qk_norm == QkNorm::kPerHead) {
    w.q_norm = norm(prefix + "q_norm.weight", config_.head_dim);
    w.k_norm = norm(prefix + "k_norm.weight", config_.head_dim);
  }
  return std::make_unique<Attention>(config_, layer, std::move(w), cache_layer);
}

std::unique_ptr<FeedForward> Builder::dense_ffn(const std::string& prefix) {
  const int64_t hidden = config_.hidden_size, width = config_.intermediate_size;
  GatedWeights w;
  if (config_.fused_qkv && source_.has(prefix + "gate_up_proj")) {
    w.gate_up = linear(prefix + "gate_up_proj", 2 * width, hidden, config_.mlp_bias);
  } else {
    w.gate = linear(prefix + "gate_proj", width, hidden, config_.mlp_bias);
    w.up = linear(prefix + "up_proj", width, hidden, config_.mlp_bias);
  }
  w.down = linear(prefix + "down_proj", hidden, width, config_.mlp_bias);
  return std::make_unique<GatedFeedForward>(std::move(w), config_.hidden_act);
}

std::unique_ptr<FeedForward> Builder::moe_ffn(const std::string& prefix) {
  const int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
  Linear router = linear(prefix + "gate", config_.num_experts, hidden, false);
  std::vector<GatedWeights> experts(static_cast<size_t>(config_.num_experts));
  const std::string module = prefix + "experts";
  for (int64_t j = 0; j < config_.num_experts; ++j) {
    const auto part = [&](std::string_view name, int64_t rows, int64_t cols) {
      return Linear(
          prepare(source_.expert(module, j, name, rows, cols), fmt::format("{}.{}.{}.weight", module, j, name)), {});
    };
    GatedWeights& w = experts[static_cast<size_t>(j)];
    w.gate = part("gate_proj", width, hidden);
    w.up = part("up_proj", width, hidden);
    w.down = part("down_proj", hidden, width);
  }
  return std::make_unique<MoeFeedForward>(std::move(router), std::move(experts),
                                          static_cast<size_t>(config_.num_experts_per_tok), config_.norm_topk_prob,
                                          config_.hidden_act);
}

DecoderLayer Builder::layer(int index, int cache_layer) {
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const int64_t hidden = config_.hidden_size;
  DecoderLayer::Norms norms;
  norms.input = norm(prefix + "input_layernorm.weight", hidden);
  if (config_.sandwich_norms) {
    norms.attention_output = norm(prefix + "post_attention_layernorm.weight", hidden);
    norms.post_attention = norm(prefix + "pre_feedforward_layernorm.weight", hidden);
    norms.ffn_output = norm(prefix + "post_feedforward_layernorm.weight", hidden);
  } else {
    norms.post_attention = norm(prefix + "post_attention_layernorm.weight", hidden);
  }
  std::unique_ptr<Mixer> mixer = attention(prefix + "self_attn.", index, cache_layer);
  const std::string mlp = prefix + "mlp.";
  std::unique_ptr<FeedForward> ffn = config_.sparse_layer[static_cast<size_t>(index)] ? moe_ffn(mlp) : dense_ffn(mlp);
  return DecoderLayer(std::move(norms), std::move(mixer), std::move(ffn));
}

void Builder::build_embedding() {
  model_.embedding_ = prepare(source_.matrix("model.embed_tokens", config_.vocab_size, config_.hidden_size),
                              "model.embed_tokens.weight");
  if (!model_.embedding_.zero_copy()) source_.release("model.embed_tokens");
}

void Builder::build() {
  const int64_t hidden = config_.hidden_size, vocab = config_.vocab_size;
  build_embedding();
  for (int i = 0; i < config_.num_hidden_layers; ++i) model_.layers_.push_back(layer(i, i));
  model_.final_norm_ = norm("model.norm.weight", hidden);
  const bool separate_head = source_.has("lm_head");
  if (!separate_head && !config_.tie_word_embeddings)
    fail(ErrorCode::kInput, "{}: tensor \"lm_head.weight\" is missing and tie_word_embeddings is false",
         source_.place());
  if (separate_head && config_.tie_word_embeddings)
    log_warning("{}: tie_word_embeddings is true, but the checkpoint has its own lm_head.weight: using it",
                source_.place());
  if (separate_head) model_.lm_head_ = linear("lm_head", vocab, hidden, false);
  const std::vector<std::string> unused = source_.unused();
  if (unused.empty()) return;
  const std::string text = fmt::format("{}: {} tensors are not part of this architecture: {}", source_.place(),
                                       unused.size(), printable(fmt::format("{}", fmt::join(unused, ", "))));
  if (options_.strict) fail(ErrorCode::kInput, "{}", text);
  log_warning("{}", text);
}

DecoderModel::DecoderModel(WeightSource& source, const LoadOptions& options, ThreadPool& pool, Layers layers)
    : config_(source.config()), activations_(options.activations) {
  Builder builder(*this, source, options, pool);
  if (layers == Layers::kAll)
    builder.build();
  else
    builder.build_embedding();
  const int64_t declared = config_.max_position_embeddings;
  const int64_t context = options.context > 0 ? options.context : std::min<int64_t>(declared, 8192);
  rope_ = std::make_unique<RopeTable>(config_.rope, config_.rotary_dim, declared, context);
  if (std::find(config_.uses_local_rope.begin(), config_.uses_local_rope.end(), true) != config_.uses_local_rope.end())
    rope_local_ = std::make_unique<RopeTable>(config_.rope_local, config_.rotary_dim, declared, context);
}

kv::KvLayout DecoderModel::kv_layout(DType kv_dtype) const {
  kv::KvLayout layout;
  layout.layers = static_cast<int>(config_.num_hidden_layers);
  layout.kv_heads = static_cast<int>(config_.num_key_value_heads);
  layout.head_dim = static_cast<int>(config_.head_dim);
  layout.dtype = kv_dtype;
  for (int64_t w : config_.sliding_window) layout.window.push_back(static_cast<int>(w));
  return layout;
}

Batch DecoderModel::begin_batch(std::span<const SeqTokens> batch, kv::KvCache& cache, ForwardScratch& s) const {
  s.tokens.clear();
  s.seqs.clear();
  for (const SeqTokens& run : batch) {
    s.seqs.push_back({run.seq, s.tokens.size(), run.tokens.size(), cache.length(run.seq)});
    s.tokens.insert(s.tokens.end(), run.tokens.begin(), run.tokens.end());
  }
  for (int32_t id : s.tokens)
    if (id < 0 || id >= config_.vocab_size)
      fail(ErrorCode::kUsage, "token id {} is outside the vocabulary of {}", id, config_.vocab_size);
  Batch b;
  b.tokens = s.tokens.size();
  b.seqs = s.seqs;
  b.cache = &cache;
  s.rope_rows.resize(b.tokens);
  std::iota(s.rope_rows.begin(), s.rope_rows.end(), 0u);
  b.rope_rows = s.rope_rows;
  const auto pairs = static_cast<size_t>(config_.rotary_dim / 2);
  fill_rope(*rope_, b, s.cos, s.sin);
  b.cos = {s.cos.data(), b.tokens, pairs};
  b.sin = {s.sin.data(), b.tokens, pairs};
  if (rope_local_) {
    fill_rope(*rope_local_, b, s.cos_local, s.sin_local);
    b.cos_local = {s.cos_local.data(), b.tokens, pairs};
    b.sin_local = {s.sin_local.data(), b.tokens, pairs};
  }
  return b;
}

void DecoderModel::fill_rope(const RopeTable& table, const Batch& batch, AlignedBuffer<float>& cos,
                             AlignedBuffer<float>& sin) const {
  const auto pairs = static_cast<size_t>(config_.rotary_dim / 2);
  cos.resize(batch.tokens * pairs);
  sin.resize(batch.tokens * pairs);
  for (const SeqRun& run : batch.seqs)
    for (size_t i = 0; i < run.n_rows; ++i) {
      const size_t at = (run.first_row + i) * pairs;
      table.fill(static_cast<int64_t>(run.first_pos + i), static_cast<int64_t>(run.first_pos + run.n_rows),
                 {cos.data() + at, pairs}, {sin.data() + at, pairs});
    }
}

void DecoderModel::embed(std::span<const int32_t> tokens, MatView<float> x) const {
  kernels::decode_rows(embedding_, tokens, x);
  if (config_.embedding_scale == 1.0) return;
  const auto scale = static_cast<float>(config_.embedding_scale);
  for (size_t t = 0; t < x.rows; ++t) kernels::scale(x.row_span(t), scale, x.row_span(t));
}

MatView<const float> DecoderModel::output_logits(MatView<const float> x, const Batch& batch, LogitRows rows,
                                                 ForwardScratch& s, Exec& exec) const {
  const size_t n = rows == LogitRows::kAll ? x.rows : batch.seqs.size();
  s.picked.resize(n * x.cols);
  MatView<float> picked(s.picked.data(), n, x.cols);
  for (size_t i = 0; i < n; ++i) {
    const size_t from = rows == LogitRows::kAll ? i : batch.seqs[i].first_row + batch.seqs[i].n_rows - 1;
    std::copy_n(x.row(from), x.cols, picked.row(i));
  }
  final_norm_.forward(picked, exec.pool, picked);
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  s.logits.resize(n * vocab);
  MatView<float> logits(s.logits.data(), n, vocab);
  const kernels::PreparedWeight& head = lm_head_.present() ? lm_head_.weight() : embedding_;
  kernels::matmul(picked, head, exec.activations, exec.pool, exec.scratch, logits);
  if (config_.final_logit_softcapping > 0)
    for (size_t i = 0; i < n; ++i)
      kernels::softcap(logits.row_span(i), static_cast<float>(config_.final_logit_softcapping), logits.row_span(i));
  return logits;
}

MatView<const float> DecoderModel::forward(std::span<const SeqTokens> batch, LogitRows rows, kv::KvCache& cache,
                                           ForwardScratch& s, ThreadPool& pool) const {
  Exec exec{pool, s.layers.matmul, activations_, nullptr};
  const Batch b = begin_batch(batch, cache, s);
  s.hidden.resize(b.tokens * static_cast<size_t>(config_.hidden_size));
  MatView<float> x(s.hidden.data(), b.tokens, static_cast<size_t>(config_.hidden_size));
  embed(s.tokens, x);
  for (const DecoderLayer& layer : layers_) layer.forward(x, b, s.layers, exec);
  for (const SeqTokens& run : batch) cache.commit(run.seq, run.tokens.size());
  return output_logits(x, b, rows, s, exec);
}

// The blocks of one checkpoint, each built when asked for.
class BlockReader final : public BlockModel {
 public:
  BlockReader(std::unique_ptr<WeightSource> source, const LoadOptions& options, ThreadPool& pool)
      : source_(std::move(source)),
        options_(options),
        pool_(pool),
        model_(*source_, options, pool, DecoderModel::Layers::kNone) {}

  const ModelConfig& config() const override { return model_.config_; }
  Block block(int index) override {
    Builder builder(model_, *source_, options_, pool_);
    model_.tensors_.clear();  // what Builder records of a whole model
    return Block(index, builder.layer(index, 0));
  }
  std::string stored_name(std::string_view name) const override { return source_->stored_name(name); }
  kv::KvLayout kv_layout(int index) const override {
    kv::KvLayout layout = model_.kv_layout(DType::kF32);
    layout.layers = 1;
    layout.window = {layout.window[static_cast<size_t>(index)]};
    return layout;
  }
  void embed(std::span<const int32_t> tokens, MatView<float> x) const override {
    for (const int32_t id : tokens)
      if (id < 0 || id >= model_.config_.vocab_size)
        fail(ErrorCode::kUsage, "token id {} is outside the vocabulary of {}", id, model_.config_.vocab_size);
    model_.embed(tokens, x);
  }
  Batch begin(const SeqTokens& run, kv::KvCache& cache, ForwardScratch& s) const override {
    return model_.begin_batch({&run, 1}, cache, s);
  }

 private:
  std::unique_ptr<WeightSource> source_;
  LoadOptions options_;
  ThreadPool& pool_;
  DecoderModel model_;
};

}  // namespace

std::unique_ptr<BlockModel> BlockModel::open(const std::string& model, const LoadOptions& options, ThreadPool& pool) {
  const io::ModelFiles files = io::resolve_model(model);
  return std::make_unique<BlockReader>(open_hf_weights(files, pool), options, pool);
}

std::shared_ptr<const Model> Model::load(const std::string& model, const LoadOptions& options, ThreadPool& pool) {
  const io::ModelFiles files = io::resolve_model(model);
  const std::unique_ptr<WeightSource> source =
      files.kind == io::ModelFiles::Kind::kGguf ? open_gguf_weights(files, pool) : open_hf_weights(files, pool);
  return std::make_shared<DecoderModel>(*source, options, pool);
}

}  // namespace fettle::models
