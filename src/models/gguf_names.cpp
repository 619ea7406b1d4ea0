#include "models/gguf_names.h"

#include <charconv>
#include <utility>

namespace fettle::models {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;  // Hugging Face, GGUF (without .weight / .bias)

constexpr NamePair kTop[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};

constexpr NamePair kLayer[] = {
    {"input_layernorm", "attn_norm"},       {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},         {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},     {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},          {"mlp.up_proj", "ffn_up"},
    {"mlp.gate_up_proj", "ffn_up"},         {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},           {"mlp.experts.gate_proj", "ffn_gate_exps"},
    {"mlp.experts.up_proj", "ffn_up_exps"}, {"mlp.experts.down_proj", "ffn_down_exps"},
};

std::optional<std::string_view> find_name(std::span<const NamePair> pairs, std::string_view hf) {
  for (const auto& [from, to] : pairs)
    if (from == hf) return to;
  return std::nullopt;
}

// The four norms of a Gemma block and the two of the others have the same Hugging Face names for different places.
std::optional<std::string_view> norm_name(const ModelConfig& config, std::string_view hf) {
  if (hf == "post_attention_layernorm") return config.sandwich_norms ? "post_attention_norm" : "ffn_norm";
  if (!config.sandwich_norms) return std::nullopt;
  if (hf == "pre_feedforward_layernorm") return "ffn_norm";
  if (hf == "post_feedforward_layernorm") return "post_ffw_norm";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gguf_tensor_name(const ModelConfig& config, std::string_view hf_name) {
  const size_t dot = hf_name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view suffix = hf_name.substr(dot);  // ".weight" or ".bias"
  std::string_view stem = hf_name.substr(0, dot);
  if (const auto top = find_name(kTop, stem)) return std::string(*top) + std::string(suffix);

  constexpr std::string_view kPrefix = "model.layers.";
  if (!stem.starts_with(kPrefix)) return std::nullopt;
  stem.remove_prefix(kPrefix.size());
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(stem.data(), stem.data() + stem.size(), layer);
  if (error != std::errc() || layer >= config.num_hidden_layers) return std::nullopt;
  stem.remove_prefix(static_cast<size_t>(end - stem.data()));
  if (stem.empty() || stem[0] != '.') return std::nullopt;
  stem.remove_prefix(1);

  auto found = norm_name(config, stem);
  if (!found) found = find_name(kLayer, stem);
  if (!found) return std::nullopt;
  return fmt::format("blk.{}.{}{}", layer, *found, suffix);
}

}  // namespace fettle::models
