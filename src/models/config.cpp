#include "models/config.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/log.h"
#include "models/rope.h"

namespace fettle::models {
namespace {

constexpr int64_t kMaxLayers = 4096, kMaxHidden = int64_t{1} << 20, kMaxIntermediate = int64_t{1} << 24;
constexpr int64_t kMaxHeads = 4096, kMaxExperts = 65536, kMaxVocab = int64_t{1} << 22, kMaxContext = int64_t{1} << 30;

// What a family reads beyond the shared keys, and what it sets. `apply` runs after the shared keys were read.
struct Family {
  std::string_view model_type;
  std::vector<std::string_view> keys;
  void (*apply)(const JsonReader& r, ModelConfig& c);
};

void set_windows(const JsonReader& r, ModelConfig& c, int64_t window, const std::function<bool(int64_t)>& slides) {
  const auto layers = static_cast<size_t>(c.num_hidden_layers);
  c.sliding_window.assign(layers, 0);
  if (window <= 0) return;
  if (r.has("layer_types")) {
    const JsonReader types = r.at("layer_types");
    if (types.array().size() != layers) types.fail_expected(fmt::format("{} entries (num_hidden_layers)", layers));
    for (size_t i = 0; i < layers; ++i) {
      const std::string& type = types.at(i).string();
      if (type == "sliding_attention")
        c.sliding_window[i] = window;
      else if (type != "full_attention")
        types.at(i).fail_expected("full_attention or sliding_attention");
    }
    return;
  }
  for (size_t i = 0; i < layers; ++i)
    if (slides(static_cast<int64_t>(i))) c.sliding_window[i] = window;
}

bool every_layer(int64_t) { return true; }

void apply_llama(const JsonReader& r, ModelConfig& c) {
  c.qkv_bias = c.o_bias = r.boolean_or("attention_bias", false);
  c.mlp_bias = r.boolean_or("mlp_bias", false);
}

void apply_mistral(const JsonReader& r, ModelConfig& c) {
  set_windows(r, c, r.integer_or("sliding_window", 0, 0, kMaxContext), every_layer);
}

void apply_qwen2_window(const JsonReader& r, ModelConfig& c) {
  if (!r.boolean_or("use_sliding_window", false)) return;
  const int64_t from = r.integer_or("max_window_layers", c.num_hidden_layers, 0, kMaxLayers);
  set_windows(r, c, r.integer_or("sliding_window", 0, 0, kMaxContext), [&](int64_t i) { return i >= from; });
}

void apply_qwen2(const JsonReader& r, ModelConfig& c) {
  c.qkv_bias = true;
  apply_qwen2_window(r, c);
}

void apply_qwen3(const JsonReader& r, ModelConfig& c) {
  c.qkv_bias = c.o_bias = r.boolean_or("attention_bias", false);
  c.qk_norm = QkNorm::kPerHead;
  apply_qwen2_window(r, c);
}

void read_experts(const JsonReader& r, ModelConfig& c, std::string_view count_key) {
  c.num_experts = r.at(count_key).integer(1, kMaxExperts);
  c.num_experts_per_tok = r.at("num_experts_per_tok").integer(1, c.num_experts);
  c.sparse_layer.assign(static_cast<size_t>(c.num_hidden_layers), true);
}

void apply_mixtral(const JsonReader& r, ModelConfig& c) {
  apply_mistral(r, c);
  read_experts(r, c, "num_local_experts");
  c.moe_intermediate_size = c.intermediate_size;
  c.norm_topk_prob = true;
}

void apply_qwen3_moe(const JsonReader& r, ModelConfig& c) {
  apply_qwen3(r, c);
  read_experts(r, c, "num_experts");
  c.moe_intermediate_size = r.at("moe_intermediate_size").integer(1, kMaxIntermediate);
  c.norm_topk_prob = r.boolean_or("norm_topk_prob", false);
  const int64_t step = r.integer_or("decoder_sparse_step", 1, 1, kMaxLayers);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) c.sparse_layer[static_cast<size_t>(i)] = (i + 1) % step == 0;
  if (!r.has("mlp_only_layers")) return;
  const JsonReader dense = r.at("mlp_only_layers");
  for (size_t i = 0; i < dense.array().size(); ++i)
    c.sparse_layer[static_cast<size_t>(dense.at(i).integer(0, c.num_hidden_layers - 1))] = false;
}

// sqrt(hidden) rounded to the dtype the model runs in upstream.
double gemma_embedding_scale(const JsonReader& r, int64_t hidden) {
  const double scale = std::sqrt(static_cast<double>(hidden));
  const std::string dtype = r.string_or("torch_dtype", r.string_or("dtype", "bfloat16"));
  if (dtype == "float32") return static_cast<float>(scale);
  const int mantissa_bits = dtype == "float16" ? 10 : 7;
  int exponent = 0;
  const double fraction = std::frexp(scale, &exponent);  // [0.5, 1)
  const double unit = std::ldexp(1.0, mantissa_bits + 1);
  return std::ldexp(std::nearbyint(fraction * unit) / unit, exponent);
}

void apply_gemma_common(const JsonReader& r, ModelConfig& c) {
  c.norm_plus_one = true;
  c.sandwich_norms = true;
  c.embedding_scale = gemma_embedding_scale(r, c.hidden_size);
  c.qkv_bias = c.o_bias = r.boolean_or("attention_bias", false);
  c.attention_scale = 1.0 / std::sqrt(r.number_or("query_pre_attn_scalar", 256, 1e-6, 1e9));
  c.attn_logit_softcapping = r.number_or("attn_logit_softcapping", 0.0, 0.0, 1e9);
  c.final_logit_softcapping = r.number_or("final_logit_softcapping", 0.0, 0.0, 1e9);
}

void apply_gemma2(const JsonReader& r, ModelConfig& c) {
  apply_gemma_common(r, c);
  if (!r.has("attn_logit_softcapping") && !r.value().find("attn_logit_softcapping")) c.attn_logit_softcapping = 50.0;
  if (!r.has("final_logit_softcapping") && !r.value().find("final_logit_softcapping")) c.final_logit_softcapping = 30.0;
  set_windows(r, c, r.integer_or("sliding_window", 4096, 0, kMaxContext), [](int64_t i) { return i % 2 == 0; });
}

void apply_gemma3(const JsonReader& r, ModelConfig& c) {
  apply_gemma_common(r, c);
  c.qk_norm = QkNorm::kPerHead;
  const int64_t pattern =
      r.integer_or("sliding_window_pattern", r.integer_or("_sliding_window_pattern", 6, 1, kMaxLayers), 1, kMaxLayers);
  set_windows(r, c, r.integer_or("sliding_window", 4096, 0, kMaxContext),
              [&](int64_t i) { return (i + 1) % pattern != 0; });
  if (!r.get("rope_parameters").has("sliding_attention")) {
    c.rope_local = RopeConfig{};
    c.rope_local.theta = r.number_or("rope_local_base_freq", 10000.0, 1.0, 1e12);
  }
  for (size_t i = 0; i < c.sliding_window.size(); ++i) c.uses_local_rope[i] = c.sliding_window[i] > 0;
}

void apply_phi3(const JsonReader& r, ModelConfig& c) {
  c.fused_qkv = true;
  c.qkv_bias = c.o_bias = r.boolean_or("attention_bias", false);
  set_windows(r, c, r.integer_or("sliding_window", 0, 0, kMaxContext), every_layer);
}

const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies = {
      {"gemma2",
       {"query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "sliding_window", "layer_types",
        "attention_bias"},
       &apply_gemma2},
      {"gemma3_text",
       {"query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "sliding_window", "layer_types",
        "attention_bias", "sliding_window_pattern", "_sliding_window_pattern", "rope_local_base_freq"},
       &apply_gemma3},
      {"llama", {"attention_bias", "mlp_bias"}, &apply_llama},
      {"mistral", {"sliding_window", "layer_types"}, &apply_mistral},
      {"mixtral", {"sliding_window", "num_local_experts", "num_experts_per_tok"}, &apply_mixtral},
      {"phi3", {"sliding_window", "attention_bias", "partial_rotary_factor"}, &apply_phi3},
      {"qwen2", {"sliding_window", "use_sliding_window", "max_window_layers", "layer_types"}, &apply_qwen2},
      {"qwen3",
       {"sliding_window", "use_sliding_window", "max_window_layers", "layer_types", "attention_bias"},
       &apply_qwen3},
      {"qwen3_moe",
       {"sliding_window", "use_sliding_window", "max_window_layers", "attention_bias", "num_experts",
        "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers"},
       &apply_qwen3_moe},
  };
  return kFamilies;
}

// Keys that change the computation when they are present with a value other than null, false, 0, 1 or an empty list. A
// family that does not read such a key cannot run the checkpoint faithfully.
constexpr std::string_view kMathsKeys[] = {"alibi",
                                           "attention_multiplier",
                                           "attn_logit_softcapping",
                                           "clip_qkv",
                                           "cross_attention_layers",
                                           "embedding_multiplier",
                                           "final_logit_softcapping",
                                           "kv_lora_rank",
                                           "layer_types",
                                           "linear_num_value_heads",
                                           "llama_4_scaling_beta",
                                           "logit_scale",
                                           "logits_scaling",
                                           "n_routed_experts",
                                           "no_rope_layers",
                                           "num_experts",
                                           "num_kv_shared_layers",
                                           "num_local_experts",
                                           "partial_rotary_factor",
                                           "q_lora_rank",
                                           "qk_layernorm",
                                           "query_pre_attn_scalar",
                                           "residual_multiplier",
                                           "rope_local_base_freq",
                                           "shared_expert_intermediate_size",
                                           "use_qk_norm"};

bool neutral(const Json& v) {
  if (v.is_null()) return true;
  if (v.is_bool()) return !v.as_bool();
  if (v.is_number()) return v.as_double() == 0.0 || v.as_double() == 1.0;
  if (v.is_array())
    return std::all_of(v.as_array().begin(), v.as_array().end(),
                       [](const Json& e) { return e.is_string() && e.as_string() == "full_attention"; });
  return v.is_string() && v.as_string().empty();
}

void refuse_unread_maths_keys(const JsonReader& r, const Family& family) {
  for (std::string_view key : kMathsKeys) {
    const Json* v = r.value().find(key);
    if (!v || neutral(*v)) continue;
    if (std::find(family.keys.begin(), family.keys.end(), key) != family.keys.end()) continue;
    r.get(key).fail_here(fmt::format("changes the computation, but model_type \"{}\" is not known to use it (value {})",
                                     family.model_type, printable(v->dump(), 60)));
  }
}

Activation parse_activation(const JsonReader& r) {
  const std::string name = r.string_or("hidden_activation", r.string_or("hidden_act", "silu"));
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  r.get(r.has("hidden_activation") ? "hidden_activation" : "hidden_act").fail_expected("silu or gelu_pytorch_tanh");
}

void read_token_ids(const JsonReader& r, ModelConfig& c) {
  if (r.has("eos_token_id")) {
    const JsonReader eos = r.at("eos_token_id");
    if (eos.value().is_array())
      for (size_t i = 0; i < eos.array().size(); ++i) c.eos_token_ids.push_back(eos.at(i).integer(0, c.vocab_size - 1));
    else
      c.eos_token_ids.push_back(eos.integer(0, c.vocab_size - 1));
  }
  if (r.has("bos_token_id")) c.bos_token_id = r.at("bos_token_id").integer(0, c.vocab_size - 1);
}

bool default_tied(std::string_view type) { return type.starts_with("gemma"); }

void read_shared(const JsonReader& r, ModelConfig& c) {
  c.hidden_size = r.at("hidden_size").integer(1, kMaxHidden);
  c.intermediate_size = r.at("intermediate_size").integer(1, kMaxIntermediate);
  c.num_hidden_layers = r.at("num_hidden_layers").integer(1, kMaxLayers);
  c.num_attention_heads = r.at("num_attention_heads").integer(1, kMaxHeads);
  c.num_key_value_heads = r.integer_or("num_key_value_heads", c.num_attention_heads, 1, kMaxHeads);
  const bool gemma = c.model_type.starts_with("gemma");
  if (!r.has("head_dim") && !gemma && c.hidden_size % c.num_attention_heads != 0)
    r.at("num_attention_heads")
        .fail_here(fmt::format("{} does not divide hidden_size {}", c.num_attention_heads, c.hidden_size));
  const int64_t default_head = gemma ? 256 : c.hidden_size / c.num_attention_heads;
  c.head_dim = r.integer_or("head_dim", default_head, 1, 4096);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    r.get("num_key_value_heads")
        .fail_here(
            fmt::format("{} does not divide num_attention_heads {}", c.num_key_value_heads, c.num_attention_heads));
  c.vocab_size = r.at("vocab_size").integer(1, kMaxVocab);
  c.max_position_embeddings = r.integer_or("max_position_embeddings", gemma ? 8192 : 2048, 1, kMaxContext);
  c.rms_norm_eps = r.number_or("rms_norm_eps", 1e-6, 1e-30, 1.0);
  c.hidden_act =
      gemma && !r.has("hidden_activation") && !r.has("hidden_act") ? Activation::kGeluTanh : parse_activation(r);
  c.tie_word_embeddings = r.boolean_or("tie_word_embeddings", default_tied(c.model_type));
  const double partial = r.number_or("partial_rotary_factor", 1.0, 1e-6, 1.0);
  c.rotary_dim = static_cast<int64_t>(static_cast<double>(c.head_dim) * partial);
  if (c.rotary_dim % 2 != 0) r.get("head_dim").fail_here(fmt::format("rotary dimension {} is odd", c.rotary_dim));
  c.attention_scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  c.uses_local_rope.assign(static_cast<size_t>(c.num_hidden_layers), false);
  c.sliding_window.assign(static_cast<size_t>(c.num_hidden_layers), 0);
  c.sparse_layer.assign(static_cast<size_t>(c.num_hidden_layers), false);
  read_token_ids(r, c);
}

// Plain edit distance for "did you mean".
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t up = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = up;
    }
  }
  return row[b.size()];
}

const Family& find_family(const JsonReader& r, const std::string& type) {
  const Family* nearest = nullptr;
  for (const Family& f : families()) {
    if (f.model_type == type) return f;
    if (!nearest || edit_distance(f.model_type, type) < edit_distance(nearest->model_type, type)) nearest = &f;
  }
  r.get("model_type")
      .fail_here(fmt::format("\"{}\" is not supported; known: {}; nearest: {}", printable(type),
                             fmt::join(known_model_types(), ", "), nearest->model_type));
}

// Multimodal wrappers nest the language model; the outer keys only fill gaps.
Json text_part(const Json& config) {
  const Json* text = config.find("text_config");
  if (!text || !text->is_object()) return config;
  Json merged = *text;
  for (const char* key : {"tie_word_embeddings", "eos_token_id", "bos_token_id", "torch_dtype", "dtype"})
    if (const Json* outer = config.find(key); outer && !merged.find(key)) merged[key] = *outer;
  return merged;
}

}  // namespace

std::vector<std::string> known_model_types() {
  std::vector<std::string> names;
  for (const Family& f : families()) names.emplace_back(f.model_type);
  return names;
}

ModelConfig parse_hf_config(const Json& config, const std::string& source) {
  if (!config.is_object()) JsonReader(config, source).fail_expected("object");
  const Json text = text_part(config);
  const JsonReader r(text, source);
  ModelConfig c;
  c.model_type = r.at("model_type").string();
  if (c.model_type == "gemma3") c.model_type = "gemma3_text";
  const Family& family = find_family(r, c.model_type);
  refuse_unread_maths_keys(r, family);
  read_shared(r, c);
  read_rope(r, c);
  family.apply(r, c);
  return c;
}

}  // namespace fettle::models
