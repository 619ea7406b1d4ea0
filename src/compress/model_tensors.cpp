#include "compress/model_tensors.h"

#include <algorithm>

#include "base/error.h"

namespace fettle::compress {
namespace {

using Kind = ModelTensor::Kind;

class Lister {
 public:
  explicit Lister(const models::ModelConfig& config) : c_(config) {}

  std::vector<ModelTensor> list() {
    matrix("model.embed_tokens", c_.vocab_size, c_.hidden_size);
    for (int64_t i = 0; i < c_.num_hidden_layers; ++i) layer(i);
    vector("model.norm.weight", c_.hidden_size);
    if (!c_.tie_word_embeddings) matrix("lm_head", c_.vocab_size, c_.hidden_size);
    return std::move(out_);
  }

 private:
  void matrix(std::string name, int64_t rows, int64_t cols) {
    out_.push_back({std::move(name), Kind::kMatrix, rows, cols});
  }
  void vector(std::string name, int64_t n) { out_.push_back({std::move(name), Kind::kVector, n, 0}); }
  void linear(const std::string& name, int64_t rows, int64_t cols, bool bias) {
    matrix(name, rows, cols);
    if (bias) vector(name + ".bias", rows);
  }

  void layer(int64_t i) {
    const std::string at = fmt::format("model.layers.{}.", i);
    vector(at + "input_layernorm.weight", c_.hidden_size);
    attention(at + "self_attn.");
    vector(at + "post_attention_layernorm.weight", c_.hidden_size);
    if (c_.sandwich_norms) {
      vector(at + "pre_feedforward_layernorm.weight", c_.hidden_size);
      vector(at + "post_feedforward_layernorm.weight", c_.hidden_size);
    }
    c_.sparse_layer[static_cast<size_t>(i)] ? experts(at + "mlp.") : feed_forward(at + "mlp.");
  }

  void attention(const std::string& at) {
    const int64_t hidden = c_.hidden_size, q = c_.q_dim(), kv = c_.kv_dim();
    if (c_.fused_qkv) {
      linear(at + "qkv_proj", q + 2 * kv, hidden, c_.qkv_bias);
    } else {
      linear(at + "q_proj", q, hidden, c_.qkv_bias);
      linear(at + "k_proj", kv, hidden, c_.qkv_bias);
      linear(at + "v_proj", kv, hidden, c_.qkv_bias);
    }
    linear(at + "o_proj", hidden, q, c_.o_bias);
    if (c_.qk_norm == models::QkNorm::kPerHead) {
      vector(at + "q_norm.weight", c_.head_dim);
      vector(at + "k_norm.weight", c_.head_dim);
    }
  }

  void feed_forward(const std::string& at) {
    const int64_t hidden = c_.hidden_size, width = c_.intermediate_size;
    if (c_.fused_qkv) {
      linear(at + "gate_up_proj", 2 * width, hidden, c_.mlp_bias);
    } else {
      linear(at + "gate_proj", width, hidden, c_.mlp_bias);
      linear(at + "up_proj", width, hidden, c_.mlp_bias);
    }
    linear(at + "down_proj", hidden, width, c_.mlp_bias);
  }

  void experts(const std::string& at) {
    matrix(at + "gate", c_.num_experts, c_.hidden_size);
    for (const char* part : {"gate_proj", "up_proj"})
      out_.push_back({at + "experts", Kind::kExperts, c_.moe_intermediate_size, c_.hidden_size, part});
    out_.push_back({at + "experts", Kind::kExperts, c_.hidden_size, c_.moe_intermediate_size, "down_proj"});
  }

  const models::ModelConfig& c_;
  std::vector<ModelTensor> out_;
};

void replace_once(std::string& text, std::string_view from, std::string_view to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

}  // namespace

const io::TensorEntry* find_model_tensor(const io::TensorSource& source, const std::string& name) {
  if (const io::TensorEntry* e = source.find(name)) return e;
  if (const io::TensorEntry* e = source.find("language_model." + name)) return e;
  std::string nested = name;
  for (const char* prefix : {"model.language_model.", "model.text_model."})
    if (name.starts_with("model.")) {
      nested = prefix + name.substr(6);
      if (const io::TensorEntry* e = source.find(nested)) return e;
    }
  return nullptr;
}

namespace {

void require_tensor(const io::TensorSource& source, const std::string& name, const std::vector<int64_t>& shape) {
  const io::TensorEntry* entry = find_model_tensor(source, name);
  if (entry == nullptr)
    fail(ErrorCode::kInput, "{}: tensor \"{}\" {} is missing, config.json asks for it", source.path(), name,
         io::shape_text(shape));
  if (entry->shape != shape)
    fail(ErrorCode::kInput, "{}: tensor \"{}\": expected shape {} from config.json, found {}",
         source.file_of(entry->name), entry->name, io::shape_text(shape), entry->describe());
}

}  // namespace

std::vector<ModelTensor> model_tensors(const models::ModelConfig& config) { return Lister(config).list(); }

std::string published_name(const models::ModelConfig& config, const std::string& name) {
  if (config.model_type != "mixtral") return name;
  std::string out = name;
  replace_once(out, ".mlp.", ".block_sparse_moe.");
  replace_once(out, ".gate_proj", ".w1");
  replace_once(out, ".up_proj", ".w3");
  replace_once(out, ".down_proj", ".w2");
  return out;
}

void require_expected_tensors(const io::TensorSource& source, const models::ModelConfig& config) {
  for (const ModelTensor& t : model_tensors(config)) {
    switch (t.kind) {
      case Kind::kVector:
        require_tensor(source, published_name(config, t.name), {t.rows});
        break;
      case Kind::kMatrix:
        require_tensor(source, published_name(config, t.name + ".weight"), {t.rows, t.cols});
        break;
      case Kind::kExperts:
        for (int64_t j = 0; j < config.num_experts; ++j)
          require_tensor(source, published_name(config, fmt::format("{}.{}.{}.weight", t.name, j, t.part)),
                         {t.rows, t.cols});
        break;
    }
  }
}

}  // namespace fettle::compress
