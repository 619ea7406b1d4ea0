#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace fettle::models {

enum class RopeType : uint8_t { kNone, kDefault, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

// Rotary position parameters, specs/30 section 2.3. Frequencies run over rotary_dim / 2 pairs.
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn
  double attention_factor = 0.0;                         // 0 = derive
  double mscale = 0.0, mscale_all_dim = 0.0;             // yarn, 0 = absent
  int64_t original_max_position_embeddings = 0;
  std::vector<double> short_factor, long_factor;  // longrope
  std::vector<double> frequency_divisors;         // GGUF rope_freqs.weight: f / divisor
};

enum class Activation : uint8_t { kSilu, kGeluTanh };
enum class QkNorm : uint8_t { kNone, kPerHead };

// One decoder architecture as data: everything the forward pass branches on. Field names follow the Hugging Face keys.
struct ModelConfig {
  std::string model_type;  // "llama", "qwen3_moe", ...
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  RopeConfig rope_local;  // gemma3: sliding layers
  Activation hidden_act = Activation::kSilu;
  bool tie_word_embeddings = false;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  bool norm_plus_one = false;     // gemma: weight applied as 1 + w
  bool sandwich_norms = false;    // gemma2/3: norms on the sublayer outputs too
  bool fused_qkv = false;         // phi3: qkv_proj, gate_up_proj
  bool interleaved_rope = false;  // GGUF architecture "llama": q/k rows permuted, adjacent-pair rotation
  double embedding_scale = 1.0;
  double attention_scale = 0.0;         // softmax scale; 1/sqrt(head_dim) unless the family says otherwise
  double attn_logit_softcapping = 0.0;  // 0 = none
  double final_logit_softcapping = 0.0;
  std::vector<int64_t> sliding_window;  // per layer, 0 = full attention
  std::vector<bool> uses_local_rope;    // per layer
  // Mixture of experts; num_experts == 0 means dense everywhere.
  int64_t num_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  bool norm_topk_prob = true;
  std::vector<bool> sparse_layer;  // per layer
  std::vector<int64_t> eos_token_ids;
  int64_t bos_token_id = -1;

  int64_t q_dim() const { return num_attention_heads * head_dim; }
  int64_t kv_dim() const { return num_key_value_heads * head_dim; }
};

// Reads and validates a Hugging Face config.json (text_config of multimodal wrappers included). Throws kInput for
// unknown architectures (naming the known ones), missing keys, impossible dimensions and keys that change the maths but
// are not understood.
ModelConfig parse_hf_config(const Json& config, const std::string& source);

// Names of the supported model_type values, sorted.
std::vector<std::string> known_model_types();

}  // namespace fettle::models
