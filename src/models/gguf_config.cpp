#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "models/gguf_names.h"
#include "tensor/tensor.h"

namespace fettle::models {
namespace {

struct Architecture {
  std::string_view gguf;
  std::string_view model_type;
};

constexpr Architecture kArchitectures[] = {
    {"gemma2", "gemma2"}, {"gemma3", "gemma3_text"}, {"llama", "llama"},        {"phi3", "phi3"},
    {"qwen2", "qwen2"},   {"qwen3", "qwen3"},        {"qwen3moe", "qwen3_moe"},
};

// The keys of one architecture: A.key.
class Keys {
 public:
  Keys(const io::GgufFile& file, std::string_view arch) : file_(file), prefix_(std::string(arch) + ".") {}
  std::string name(std::string_view key) const { return prefix_ + std::string(key); }
  bool has(std::string_view key) const { return file_.has(name(key)); }
  int64_t integer(std::string_view key, int64_t lo, int64_t hi) const { return file_.integer(name(key), lo, hi); }
  int64_t integer_or(std::string_view key, int64_t fallback, int64_t lo, int64_t hi) const {
    return file_.integer_or(name(key), fallback, lo, hi);
  }
  double number_or(std::string_view key, double fallback) const { return file_.number_or(name(key), fallback); }
  std::string string_or(std::string_view key, std::string_view fallback) const {
    return file_.string_or(name(key), fallback);
  }

 private:
  const io::GgufFile& file_;
  std::string prefix_;
};

void read_dimensions(const io::TensorSource& source, const Keys& k, ModelConfig& c) {
  const io::GgufFile& file = source.gguf();
  c.num_hidden_layers = k.integer("block_count", 1, 4096);
  c.hidden_size = k.integer("embedding_length", 1, int64_t{1} << 20);
  c.intermediate_size = k.integer("feed_forward_length", 1, int64_t{1} << 24);
  c.num_attention_heads = k.integer("attention.head_count", 1, 4096);
  c.num_key_value_heads = k.integer_or("attention.head_count_kv", c.num_attention_heads, 1, 4096);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    fail(ErrorCode::kInput, "{}: {}: {} does not divide attention.head_count {}", file.path(),
         k.name("attention.head_count_kv"), c.num_key_value_heads, c.num_attention_heads);
  if (!k.has("attention.key_length") && c.hidden_size % c.num_attention_heads != 0)
    fail(ErrorCode::kInput, "{}: {}: {} does not divide embedding_length {}", file.path(),
         k.name("attention.head_count"), c.num_attention_heads, c.hidden_size);
  c.head_dim = k.integer_or("attention.key_length", c.hidden_size / c.num_attention_heads, 1, 4096);
  if (k.integer_or("attention.value_length", c.head_dim, 1, 4096) != c.head_dim)
    fail(ErrorCode::kInput, "{}: {}: differs from key_length {}; not supported", file.path(),
         k.name("attention.value_length"), c.head_dim);
  c.rotary_dim = k.integer_or("rope.dimension_count", c.head_dim, 2, c.head_dim);
  if (c.rotary_dim % 2 != 0)
    fail(ErrorCode::kInput, "{}: {}: rotary dimension {} is odd", file.path(), k.name("rope.dimension_count"),
         c.rotary_dim);
  c.max_position_embeddings = k.integer_or("context_length", 2048, 1, int64_t{1} << 30);
  c.rms_norm_eps = k.number_or("attention.layer_norm_rms_epsilon", 1e-6);
  if (!(c.rms_norm_eps > 0 && c.rms_norm_eps < 1))
    fail(ErrorCode::kInput, "{}: {}: expected a number in (0, 1), found {}", file.path(),
         k.name("attention.layer_norm_rms_epsilon"), c.rms_norm_eps);
  const io::TensorEntry& embedding = source.at("token_embd.weight");
  if (embedding.shape.size() != 2)
    fail(ErrorCode::kInput, "{}: tensor \"token_embd.weight\": expected 2 dimensions, found {}", file.path(),
         embedding.describe());
  c.vocab_size = embedding.shape[0];
  const auto layers = static_cast<size_t>(c.num_hidden_layers);
  c.sliding_window.assign(layers, 0);
  c.uses_local_rope.assign(layers, false);
  c.sparse_layer.assign(layers, false);
}

std::vector<double> factors(const io::TensorSource& source, const char* tensor, int64_t pairs) {
  const io::TensorEntry* entry = source.find(tensor);
  if (!entry) return {};
  if (entry->shape != std::vector<int64_t>{pairs} || entry->dtype != DType::kF32)
    fail(ErrorCode::kInput, "{}: tensor \"{}\": expected F32 [{}], found {}", source.path(), tensor, pairs,
         entry->describe());
  std::vector<double> out;
  for (float f : source.get(tensor).to_f32()) {
    if (!(f > 0) || !std::isfinite(f))
      fail(ErrorCode::kInput, "{}: tensor \"{}\": factor {} is not positive", source.path(), tensor, f);
    out.push_back(static_cast<double>(f));
  }
  return out;
}

void read_gguf_rope(const io::TensorSource& source, const Keys& k, ModelConfig& c) {
  const io::GgufFile& file = source.gguf();
  RopeConfig& r = c.rope;
  r.theta = k.number_or("rope.freq_base", 10000.0);
  if (!(r.theta > 0))
    fail(ErrorCode::kInput, "{}: {}: expected a positive number, found {}", file.path(), k.name("rope.freq_base"),
         r.theta);
  r.original_max_position_embeddings =
      k.integer_or("rope.scaling.original_context_length", c.max_position_embeddings, 1, int64_t{1} << 30);
  r.attention_factor = k.number_or("rope.scaling.attn_factor", 0.0);
  r.factor = k.number_or("rope.scaling.factor", 1.0);
  const std::string type = k.string_or("rope.scaling.type", "none");
  if (type == "linear")
    r.type = RopeType::kLinear;
  else if (type == "yarn")
    r.type = RopeType::kYarn;
  else if (type != "none" && type != "longrope")
    fail(ErrorCode::kInput, "{}: {}: expected none, linear, yarn or longrope, found \"{}\"", file.path(),
         k.name("rope.scaling.type"), printable(type));
  r.frequency_divisors = factors(source, "rope_freqs.weight", c.rotary_dim / 2);
  r.long_factor = factors(source, "rope_factors_long.weight", c.rotary_dim / 2);
  r.short_factor = factors(source, "rope_factors_short.weight", c.rotary_dim / 2);
  if (!r.long_factor.empty() && !r.short_factor.empty()) r.type = RopeType::kLongRope;
}

void read_gguf_experts(const Keys& k, ModelConfig& c) {
  c.num_experts = k.integer_or("expert_count", 0, 0, 65536);
  if (c.num_experts == 0) return;
  if (c.model_type == "llama") c.model_type = "mixtral";
  c.num_experts_per_tok = k.integer("expert_used_count", 1, c.num_experts);
  c.moe_intermediate_size = k.integer_or("expert_feed_forward_length", c.intermediate_size, 1, int64_t{1} << 24);
  const int64_t dense = k.integer_or("leading_dense_block_count", 0, 0, c.num_hidden_layers);
  for (int64_t i = dense; i < c.num_hidden_layers; ++i) c.sparse_layer[static_cast<size_t>(i)] = true;
}

// GGUF has no query_pre_attn_scalar; the two 27B models are the ones whose scale is not 1/sqrt(head_dim) (the rule
// llama.cpp applies: recognised by their number of blocks).
double gemma_attention_scale(const ModelConfig& c) {
  const bool is_27b = c.num_hidden_layers == (c.model_type == "gemma2" ? 46 : 62);
  return 1.0 / std::sqrt(is_27b ? static_cast<double>(c.hidden_size / c.num_attention_heads)
                                : static_cast<double>(c.head_dim));
}

void apply_family(const Keys& k, ModelConfig& c) {
  const int64_t window = k.integer_or("attention.sliding_window", 0, 0, int64_t{1} << 30);
  const auto slide = [&](auto&& slides) {
    for (int64_t i = 0; i < c.num_hidden_layers; ++i)
      if (slides(i)) c.sliding_window[static_cast<size_t>(i)] = window;
  };
  c.attention_scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  if (c.model_type == "llama" || c.model_type == "mixtral") {
    c.interleaved_rope = true;
    slide([](int64_t) { return true; });
  } else if (c.model_type == "phi3") {
    c.fused_qkv = true;
    slide([](int64_t) { return true; });
  } else if (c.model_type == "qwen2") {
    c.qkv_bias = true;
  } else if (c.model_type.starts_with("qwen3")) {
    c.qk_norm = QkNorm::kPerHead;
  } else {
    c.norm_plus_one = c.sandwich_norms = true;
    c.hidden_act = Activation::kGeluTanh;
    c.embedding_scale = std::sqrt(static_cast<float>(c.hidden_size));
    c.attention_scale = gemma_attention_scale(c);
    c.attn_logit_softcapping = k.number_or("attn_logit_softcapping", c.model_type == "gemma2" ? 50.0 : 0.0);
    c.final_logit_softcapping = k.number_or("final_logit_softcapping", c.model_type == "gemma2" ? 30.0 : 0.0);
    if (c.model_type == "gemma2") {
      slide([](int64_t i) { return i % 2 == 0; });
    } else {
      c.qk_norm = QkNorm::kPerHead;
      const int64_t pattern = k.integer_or("attention.sliding_window_pattern", 6, 1, 4096);
      slide([&](int64_t i) { return (i + 1) % pattern != 0; });
      c.rope_local.theta = k.number_or("rope.freq_base_swa", 10000.0);
      for (size_t i = 0; i < c.sliding_window.size(); ++i) c.uses_local_rope[i] = c.sliding_window[i] > 0;
    }
  }
  c.attention_scale = k.number_or("attention.scale", c.attention_scale);
}

}  // namespace

ModelConfig parse_gguf_config(const io::TensorSource& source) {
  const io::GgufFile& file = source.gguf();
  const std::string arch(file.string("general.architecture"));
  const auto* known = std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                                   [&](const Architecture& a) { return a.gguf == arch; });
  if (known == std::end(kArchitectures)) {
    std::vector<std::string_view> names;
    for (const Architecture& a : kArchitectures) names.push_back(a.gguf);
    fail(ErrorCode::kInput, "{}: general.architecture: \"{}\" is not supported; known: {}", file.path(),
         printable(arch), fmt::join(names, ", "));
  }
  ModelConfig c;
  c.model_type = std::string(known->model_type);
  const Keys k(file, arch);
  read_dimensions(source, k, c);
  read_gguf_rope(source, k, c);
  read_gguf_experts(k, c);
  apply_family(k, c);
  c.tie_word_embeddings = !source.has("output.weight");
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"})
    if (file.has(key)) c.eos_token_ids.push_back(file.integer(key, 0, c.vocab_size - 1));
  c.bos_token_id = file.integer_or("tokenizer.ggml.bos_token_id", -1, 0, c.vocab_size - 1);
  return c;
}

std::string gguf_architecture(const ModelConfig& config) {
  if (config.model_type == "mistral" || config.model_type == "mixtral") return "llama";
  for (const Architecture& a : kArchitectures)
    if (a.model_type == config.model_type) return std::string(a.gguf);
  fail(ErrorCode::kInput, "model_type \"{}\" has no GGUF architecture", printable(config.model_type));
}

}  // namespace fettle::models
