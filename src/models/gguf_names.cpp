#include "models/gguf_names.h"

#include "text/gguf_vocab.h"

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

text::GgufVocab gguf_vocab(const io::GgufFile& file) {
  text::GgufVocab v;
  v.model = file.string("tokenizer.ggml.model");
  v.source = file.path();
  v.pre = file.string_or("tokenizer.ggml.pre", "");
  for (std::string_view token : file.strings("tokenizer.ggml.tokens")) v.tokens.emplace_back(token);
  if (file.has("tokenizer.ggml.scores")) v.scores = file.numbers("tokenizer.ggml.scores");
  if (file.has("tokenizer.ggml.token_type"))
    for (int64_t type : file.integers("tokenizer.ggml.token_type")) v.token_types.push_back(static_cast<int32_t>(type));
  if (file.has("tokenizer.ggml.merges"))
    for (std::string_view merge : file.strings("tokenizer.ggml.merges")) v.merges.emplace_back(merge);
  const auto id = [&](const char* key) -> std::optional<text::TokenId> {
    const std::string name = fmt::format("tokenizer.ggml.{}_token_id", key);
    if (!file.has(name)) return std::nullopt;
    return static_cast<text::TokenId>(file.integer(name, 0, INT32_MAX));
  };
  v.bos = id("bos");
  v.eos = id("eos");
  v.eot = id("eot");
  v.eom = id("eom");
  v.unk = id("unknown");
  v.pad = id("padding");
  v.sep = id("seperator");  // spelt so in the format
  v.mask = id("mask");
  const auto flag = [&](const char* key) -> std::optional<bool> {
    const std::string name = fmt::format("tokenizer.ggml.{}", key);
    if (!file.has(name)) return std::nullopt;
    return file.boolean(name);
  };
  v.add_bos = flag("add_bos_token");
  v.add_eos = flag("add_eos_token");
  v.add_sep = flag("add_sep_token");
  v.add_space_prefix = flag("add_space_prefix");
  v.remove_extra_whitespaces = flag("remove_extra_whitespaces");
  if (const io::GgufValue* charsmap = file.find_value("tokenizer.ggml.precompiled_charsmap")) {
    if (charsmap->type != io::GgufType::kArray || charsmap->raw.size() != charsmap->count)
      fail(ErrorCode::kInput, "{}: tokenizer.ggml.precompiled_charsmap: expected an array of bytes, found {}",
           file.path(), charsmap->type_text());
    v.precompiled_charsmap.assign(reinterpret_cast<const char*>(charsmap->raw.data()), charsmap->raw.size());
  }
  v.huggingface_json = file.string_or("tokenizer.huggingface.json", "");
  return v;
}

}  // namespace fettle::models
