#include "compress/hf_config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compress/gguf_metadata.h"

namespace fettle::compress {
namespace {

using models::ModelConfig;
using models::RopeType;

const char* architecture_class(const std::string& type) {
  if (type == "gemma2") return "Gemma2ForCausalLM";
  if (type == "gemma3_text") return "Gemma3ForCausalLM";
  if (type == "mixtral") return "MixtralForCausalLM";
  if (type == "phi3") return "Phi3ForCausalLM";
  if (type == "qwen2") return "Qwen2ForCausalLM";
  if (type == "qwen3") return "Qwen3ForCausalLM";
  if (type == "qwen3_moe") return "Qwen3MoeForCausalLM";
  return "LlamaForCausalLM";
}

// The published llama3 settings; a file's divisors are compared with each, since GGUF does not keep the parameters.
Json llama3_scaling(const ModelConfig& c) {
  for (const double factor : {8.0, 32.0, 16.0, 4.0, 2.0}) {
    models::RopeConfig rope = c.rope;
    rope.factor = factor;
    rope.low_freq_factor = 1.0;
    rope.high_freq_factor = 4.0;
    rope.original_max_position_embeddings = 8192;
    const std::vector<float> divisors = llama3_divisors(rope, c.rotary_dim);
    const auto same = [](float a, double b) { return std::abs(static_cast<double>(a) - b) <= 1e-4 * b; };
    if (!std::equal(divisors.begin(), divisors.end(), c.rope.frequency_divisors.begin(),
                    c.rope.frequency_divisors.end(), same))
      continue;
    Json scaling = Json::object();
    scaling["rope_type"] = "llama3";
    scaling["factor"] = factor;
    scaling["low_freq_factor"] = 1.0;
    scaling["high_freq_factor"] = 4.0;
    scaling["original_max_position_embeddings"] = 8192;
    return scaling;
  }
  fail(ErrorCode::kInput,
       "rope_freqs.weight: the divisors follow no known llama3 scaling; config.json cannot express them");
}

Json number_list(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double v : values) list.push_back(v);
  return list;
}

Json rope_scaling(const ModelConfig& c) {
  if (!c.rope.frequency_divisors.empty()) return llama3_scaling(c);
  Json s = Json::object();
  switch (c.rope.type) {
    case RopeType::kLinear:
      s["rope_type"] = "linear";
      s["factor"] = c.rope.factor;
      return s;
    case RopeType::kYarn:
      s["rope_type"] = "yarn";
      s["factor"] = c.rope.factor;
      s["original_max_position_embeddings"] = c.rope.original_max_position_embeddings;
      if (c.rope.attention_factor > 0) s["attention_factor"] = c.rope.attention_factor;
      return s;
    case RopeType::kLongRope:
      s["rope_type"] = "longrope";
      s["short_factor"] = number_list(c.rope.short_factor);
      s["long_factor"] = number_list(c.rope.long_factor);
      if (c.rope.attention_factor > 0) s["attention_factor"] = c.rope.attention_factor;
      return s;
    default:
      return {};
  }
}

void add_family_keys(const ModelConfig& c, Json& j) {
  const int64_t window =
      c.sliding_window.empty() ? 0 : *std::max_element(c.sliding_window.begin(), c.sliding_window.end());
  if (c.model_type.starts_with("gemma")) {
    j["hidden_activation"] = "gelu_pytorch_tanh";
    j["query_pre_attn_scalar"] = 1.0 / (c.attention_scale * c.attention_scale);
    j["sliding_window"] = window;
    j["attn_logit_softcapping"] = c.attn_logit_softcapping > 0 ? Json(c.attn_logit_softcapping) : Json();
    j["final_logit_softcapping"] = c.final_logit_softcapping > 0 ? Json(c.final_logit_softcapping) : Json();
    if (c.model_type == "gemma3_text") {
      j["rope_local_base_freq"] = c.rope_local.theta;
      Json types = Json::array();
      for (const int64_t w : c.sliding_window) types.push_back(w > 0 ? "sliding_attention" : "full_attention");
      j["layer_types"] = std::move(types);
    }
  } else {
    j["hidden_act"] = "silu";
    if (c.model_type == "phi3" || c.model_type == "mixtral" || window > 0)
      j["sliding_window"] = window > 0 ? Json(window) : Json();
  }
  if (c.model_type == "phi3") j["original_max_position_embeddings"] = c.rope.original_max_position_embeddings;
  if (c.model_type == "llama") {
    j["attention_bias"] = c.qkv_bias;
    j["mlp_bias"] = c.mlp_bias;
  }
  if (c.num_experts == 0) return;
  j[c.model_type == "mixtral" ? "num_local_experts" : "num_experts"] = c.num_experts;
  j["num_experts_per_tok"] = c.num_experts_per_tok;
  if (c.model_type == "mixtral") return;
  j["moe_intermediate_size"] = c.moe_intermediate_size;
  j["norm_topk_prob"] = c.norm_topk_prob;
  j["decoder_sparse_step"] = 1;
  Json dense = Json::array();
  for (size_t i = 0; i < c.sparse_layer.size(); ++i)
    if (!c.sparse_layer[i]) dense.push_back(static_cast<int64_t>(i));
  j["mlp_only_layers"] = std::move(dense);
}

}  // namespace

Json make_hf_config(const ModelConfig& c, DType dtype) {
  // A llama with a window is what Hugging Face calls mistral.
  const bool mistral = c.model_type == "llama" &&
                       std::any_of(c.sliding_window.begin(), c.sliding_window.end(), [](int64_t w) { return w > 0; });
  Json j = Json::object();
  j["architectures"] = Json::Array{Json(mistral ? "MistralForCausalLM" : architecture_class(c.model_type))};
  j["model_type"] = mistral ? std::string("mistral") : c.model_type;
  j["hidden_size"] = c.hidden_size;
  j["intermediate_size"] = c.intermediate_size;
  j["num_hidden_layers"] = c.num_hidden_layers;
  j["num_attention_heads"] = c.num_attention_heads;
  j["num_key_value_heads"] = c.num_key_value_heads;
  j["head_dim"] = c.head_dim;
  j["vocab_size"] = c.vocab_size;
  j["max_position_embeddings"] = c.max_position_embeddings;
  j["rms_norm_eps"] = c.rms_norm_eps;
  j["rope_theta"] = c.rope.theta;
  if (Json scaling = rope_scaling(c); !scaling.is_null()) j["rope_scaling"] = std::move(scaling);
  if (c.rotary_dim != c.head_dim)
    j["partial_rotary_factor"] = static_cast<double>(c.rotary_dim) / static_cast<double>(c.head_dim);
  j["tie_word_embeddings"] = c.tie_word_embeddings;
  if (c.bos_token_id >= 0) j["bos_token_id"] = c.bos_token_id;
  if (c.eos_token_ids.size() == 1) j["eos_token_id"] = c.eos_token_ids[0];
  if (c.eos_token_ids.size() > 1) {
    Json ids = Json::array();
    for (const int64_t id : c.eos_token_ids) ids.push_back(id);
    j["eos_token_id"] = std::move(ids);
  }
  add_family_keys(c, j);
  j["torch_dtype"] = dtype == DType::kBF16 ? "bfloat16" : dtype == DType::kF16 ? "float16" : "float32";
  return j;
}

}  // namespace fettle::compress
