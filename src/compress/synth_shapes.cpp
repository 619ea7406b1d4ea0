#include "base/error.h"
#include "compress/synth.h"

namespace fettle::compress {
namespace {

// The numbers of a published config.json; zero means the key is absent for the architecture.
struct Shape {
  const char* arch;
  const char* params;
  const char* like;
  int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab;
  bool tied;
  double theta;
  int64_t context;
  int64_t experts = 0, used = 0, expert_ffn = 0;
  int64_t window = 0;
};

constexpr Shape kShapes[] = {
    {"gemma2", "2b", "Gemma-2-2B", 2304, 26, 8, 4, 256, 9216, 256000, true, 1e4, 8192, 0, 0, 0, 4096},
    {"gemma2", "tiny", "tests", 128, 4, 4, 2, 32, 256, 320, true, 1e4, 512, 0, 0, 0, 16},
    {"gemma3_text", "1b", "Gemma-3-1B", 1152, 26, 4, 1, 256, 6912, 262144, true, 1e6, 32768, 0, 0, 0, 512},
    {"gemma3_text", "270m", "Gemma-3-270M", 640, 18, 4, 1, 256, 2048, 262144, true, 1e6, 32768, 0, 0, 0, 512},
    {"gemma3_text", "tiny", "tests", 128, 6, 4, 2, 32, 256, 320, true, 1e6, 512, 0, 0, 0, 16},
    {"llama", "1.1b", "TinyLlama-1.1B", 2048, 22, 32, 4, 64, 5632, 32000, false, 1e4, 2048},
    {"llama", "135m", "SmolLM-135M", 576, 30, 9, 3, 64, 1536, 49152, true, 1e4, 2048},
    {"llama", "1b", "benchmark shape of 1.10 B parameters", 2048, 16, 32, 8, 64, 8192, 32000, false, 5e5, 8192},
    {"llama", "3.2-1b", "Llama-3.2-1B", 2048, 16, 32, 8, 64, 8192, 128256, true, 5e5, 131072},
    {"llama", "8b", "Llama-3.1-8B", 4096, 32, 32, 8, 128, 14336, 128256, false, 5e5, 131072},
    {"llama", "tiny", "tests", 128, 2, 4, 2, 32, 256, 320, false, 1e4, 512},
    {"mistral", "7b", "Mistral-7B-v0.3", 4096, 32, 32, 8, 128, 14336, 32768, false, 1e6, 32768},
    {"mistral", "tiny", "tests", 128, 2, 4, 2, 32, 256, 320, false, 1e6, 512, 0, 0, 0, 16},
    {"mixtral", "8x7b", "Mixtral-8x7B", 4096, 32, 32, 8, 128, 14336, 32000, false, 1e6, 32768, 8, 2, 14336},
    {"mixtral", "tiny", "tests", 128, 2, 4, 2, 32, 128, 320, false, 1e6, 512, 4, 2, 128},
    {"phi3", "3.8b", "Phi-3-mini-4k", 3072, 32, 32, 32, 96, 8192, 32064, false, 1e4, 4096},
    {"phi3", "tiny", "tests", 128, 2, 4, 2, 32, 256, 320, false, 1e4, 512},
    {"qwen2", "0.5b", "Qwen2.5-0.5B", 896, 24, 14, 2, 64, 4864, 151936, true, 1e6, 32768},
    {"qwen2", "tiny", "tests", 128, 2, 4, 2, 32, 256, 320, false, 1e6, 512},
    {"qwen3", "0.6b", "Qwen3-0.6B", 1024, 28, 16, 8, 128, 3072, 151936, true, 1e6, 40960},
    {"qwen3", "tiny", "tests", 128, 2, 4, 2, 32, 256, 320, true, 1e6, 512},
    {"qwen3_moe", "30b-a3b", "Qwen3-30B-A3B", 2048, 48, 32, 4, 128, 6144, 151936, false, 1e6, 40960, 128, 8, 768},
    {"qwen3_moe", "0.7b", "benchmark shape, 32 experts", 1024, 12, 16, 8, 64, 3072, 32000, true, 1e6, 8192, 32, 4, 512},
    {"qwen3_moe", "tiny", "tests", 128, 2, 4, 2, 32, 256, 320, false, 1e6, 512, 8, 2, 64},
};

const char* class_name(std::string_view arch) {
  if (arch == "gemma2") return "Gemma2ForCausalLM";
  if (arch == "gemma3_text") return "Gemma3ForCausalLM";
  if (arch == "mistral") return "MistralForCausalLM";
  if (arch == "mixtral") return "MixtralForCausalLM";
  if (arch == "phi3") return "Phi3ForCausalLM";
  if (arch == "qwen2") return "Qwen2ForCausalLM";
  if (arch == "qwen3") return "Qwen3ForCausalLM";
  if (arch == "qwen3_moe") return "Qwen3MoeForCausalLM";
  return "LlamaForCausalLM";
}

const Shape& find_shape(const std::string& arch, const std::string& params) {
  std::string known;
  const std::string wanted = arch == "gemma3" ? "gemma3_text" : arch;
  for (const Shape& s : kShapes) {
    if (wanted == s.arch && params == s.params) return s;
    known += fmt::format("{}{} {}", known.empty() ? "" : ", ", s.arch, s.params);
  }
  fail(ErrorCode::kUsage, "synth: expected one of the shapes {}; found {} {}", known, printable(arch),
       printable(params));
}

void add_family_keys(Json& c, const Shape& s) {
  const std::string_view arch = s.arch;
  const bool gemma = arch.starts_with("gemma");
  if (gemma) {
    c["hidden_activation"] = "gelu_pytorch_tanh";
    c["query_pre_attn_scalar"] = s.head_dim;
    c["sliding_window"] = s.window;
    c["attn_logit_softcapping"] = arch == "gemma2" ? Json(50.0) : Json();
    c["final_logit_softcapping"] = arch == "gemma2" ? Json(30.0) : Json();
    if (arch == "gemma3_text") {
      c["rope_local_base_freq"] = 10000.0;
      c["sliding_window_pattern"] = 6;
    }
  } else {
    c["hidden_act"] = "silu";
  }
  if (arch == "mistral") c["sliding_window"] = s.window > 0 ? Json(s.window) : Json();
  if (arch == "mixtral") {
    c["num_local_experts"] = s.experts;
    c["num_experts_per_tok"] = s.used;
    c["sliding_window"] = Json();
  }
  if (arch == "qwen3_moe") {
    c["num_experts"] = s.experts;
    c["num_experts_per_tok"] = s.used;
    c["moe_intermediate_size"] = s.expert_ffn;
    c["norm_topk_prob"] = true;
    c["decoder_sparse_step"] = 1;
    c["mlp_only_layers"] = Json::array();
  }
  if (arch == "phi3") c["original_max_position_embeddings"] = s.context;
  if (arch == "llama" && s.context > 100000) {
    Json rope = Json::object();
    rope["rope_type"] = "llama3";
    rope["factor"] = std::string_view(s.params) == "3.2-1b" ? 32.0 : 8.0;
    rope["low_freq_factor"] = 1.0;
    rope["high_freq_factor"] = 4.0;
    rope["original_max_position_embeddings"] = 8192;
    c["rope_scaling"] = std::move(rope);
  }
}

}  // namespace

std::vector<SynthShape> synth_shapes() {
  std::vector<SynthShape> shapes;
  for (const Shape& s : kShapes) shapes.push_back({s.arch, s.params, s.like});
  return shapes;
}

Json synth_config(const std::string& arch, const std::string& params) {
  const Shape& s = find_shape(arch, params);
  Json c = Json::object();
  c["architectures"] = Json::Array{Json(class_name(s.arch))};
  c["model_type"] = s.arch;
  c["hidden_size"] = s.hidden;
  c["intermediate_size"] = s.ffn;
  c["num_hidden_layers"] = s.layers;
  c["num_attention_heads"] = s.heads;
  c["num_key_value_heads"] = s.kv_heads;
  c["head_dim"] = s.head_dim;
  c["vocab_size"] = s.vocab;
  c["max_position_embeddings"] = s.context;
  c["rms_norm_eps"] = 1e-6;
  c["rope_theta"] = s.theta;
  c["tie_word_embeddings"] = s.tied;
  c["bos_token_id"] = 0;
  c["eos_token_id"] = 0;
  add_family_keys(c, s);
  return c;
}

std::vector<SynthTensor> synth_tensors(const Json& config) {
  using Fill = SynthTensor::Fill;
  const JsonReader c(config, "config.json");
  const std::string arch = c.at("model_type").string();
  const int64_t hidden = c.at("hidden_size").integer(), ffn = c.at("intermediate_size").integer();
  const int64_t head_dim = c.at("head_dim").integer(), vocab = c.at("vocab_size").integer();
  const int64_t q = c.at("num_attention_heads").integer() * head_dim,
                kv = c.at("num_key_value_heads").integer() * head_dim;
  const Fill neutral = arch.starts_with("gemma") ? Fill::kZero : Fill::kOne;  // gemma applies 1 + w
  std::vector<SynthTensor> t;
  const auto matrix = [&](std::string name, int64_t n, int64_t k) {
    t.push_back({std::move(name), {n, k}, Fill::kNormal});
  };
  const auto norm = [&](std::string name, int64_t n) { t.push_back({std::move(name), {n}, neutral}); };
  const auto attention = [&](const std::string& at) {
    if (arch == "phi3") {
      matrix(at + "qkv_proj.weight", q + 2 * kv, hidden);
    } else {
      matrix(at + "q_proj.weight", q, hidden);
      matrix(at + "k_proj.weight", kv, hidden);
      matrix(at + "v_proj.weight", kv, hidden);
    }
    if (arch == "qwen2") {
      t.push_back({at + "q_proj.bias", {q}, Fill::kZero});
      t.push_back({at + "k_proj.bias", {kv}, Fill::kZero});
      t.push_back({at + "v_proj.bias", {kv}, Fill::kZero});
    }
    if (arch.starts_with("qwen3") || arch == "gemma3_text") {
      norm(at + "q_norm.weight", head_dim);
      norm(at + "k_norm.weight", head_dim);
    }
    matrix(at + "o_proj.weight", hidden, q);
  };
  const auto gated = [&](const std::string& at, const char* gate, const char* up, const char* down, int64_t width) {
    matrix(at + gate + ".weight", width, hidden);
    matrix(at + up + ".weight", width, hidden);
    matrix(at + down + ".weight", hidden, width);
  };
  const auto feed_forward = [&](const std::string& layer) {
    if (arch == "mixtral") {
      const int64_t experts = c.at("num_local_experts").integer();
      matrix(layer + "block_sparse_moe.gate.weight", experts, hidden);
      for (int64_t e = 0; e < experts; ++e)
        gated(fmt::format("{}block_sparse_moe.experts.{}.", layer, e), "w1", "w3", "w2", ffn);
    } else if (arch == "qwen3_moe") {
      const int64_t experts = c.at("num_experts").integer(), width = c.at("moe_intermediate_size").integer();
      matrix(layer + "mlp.gate.weight", experts, hidden);
      for (int64_t e = 0; e < experts; ++e)
        gated(fmt::format("{}mlp.experts.{}.", layer, e), "gate_proj", "up_proj", "down_proj", width);
    } else if (arch == "phi3") {
      matrix(layer + "mlp.gate_up_proj.weight", 2 * ffn, hidden);
      matrix(layer + "mlp.down_proj.weight", hidden, ffn);
    } else {
      gated(layer + "mlp.", "gate_proj", "up_proj", "down_proj", ffn);
    }
  };
  matrix("model.embed_tokens.weight", vocab, hidden);
  for (int64_t i = 0; i < c.at("num_hidden_layers").integer(); ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    norm(layer + "input_layernorm.weight", hidden);
    norm(layer + "post_attention_layernorm.weight", hidden);
    if (arch.starts_with("gemma")) {
      norm(layer + "pre_feedforward_layernorm.weight", hidden);
      norm(layer + "post_feedforward_layernorm.weight", hidden);
    }
    attention(layer + "self_attn.");
    feed_forward(layer);
  }
  norm("model.norm.weight", hidden);
  if (!c.at("tie_word_embeddings").boolean()) matrix("lm_head.weight", vocab, hidden);
  return t;
}

}  // namespace fettle::compress
