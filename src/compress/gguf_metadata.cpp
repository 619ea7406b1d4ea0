#include "compress/gguf_metadata.h"

#include <cmath>
#include <numbers>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "models/gguf_names.h"
#include "models/gguf_tokenizer.h"
#include "text/chat_template.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace fettle::compress {
namespace {

using models::ModelConfig;
using models::RopeType;

// `<architecture>.key` with the types llama.cpp reads.
class ArchKeys {
 public:
  ArchKeys(std::string arch, io::GgufMetadata& out) : arch_(std::move(arch)), out_(out) {}
  void u32(const char* key, int64_t v) { out_.u32(name(key), narrow<uint32_t>(v, key)); }
  void f32(const char* key, double v) { out_.f32(name(key), static_cast<float>(v)); }
  void text(const char* key, std::string_view v) { out_.string(name(key), v); }

 private:
  std::string name(const char* key) const { return arch_ + "." + key; }
  std::string arch_;
  io::GgufMetadata& out_;
};

void add_rope(const ModelConfig& c, ArchKeys& k) {
  k.u32("rope.dimension_count", c.rotary_dim);
  k.f32("rope.freq_base", c.rope.theta);
  switch (c.rope.type) {
    case RopeType::kNone:
    case RopeType::kDefault:
    case RopeType::kLlama3:  // divisors are a tensor
      break;
    case RopeType::kLinear:
      k.text("rope.scaling.type", "linear");
      k.f32("rope.scaling.factor", c.rope.factor);
      break;
    case RopeType::kYarn:
      k.text("rope.scaling.type", "yarn");
      k.f32("rope.scaling.factor", c.rope.factor);
      k.u32("rope.scaling.original_context_length", c.rope.original_max_position_embeddings);
      if (c.rope.attention_factor > 0) k.f32("rope.scaling.attn_factor", c.rope.attention_factor);
      break;
    case RopeType::kLongRope: {
      const double ratio =
          static_cast<double>(c.max_position_embeddings) / static_cast<double>(c.rope.original_max_position_embeddings);
      const double derived =
          ratio <= 1
              ? 1.0
              : std::sqrt(1 + std::log(ratio) / std::log(static_cast<double>(c.rope.original_max_position_embeddings)));
      k.u32("rope.scaling.original_context_length", c.rope.original_max_position_embeddings);
      k.f32("rope.scaling.attn_factor", c.rope.attention_factor > 0 ? c.rope.attention_factor : derived);
      break;
    }
    case RopeType::kDynamic:
      fail(ErrorCode::kInput, "rope_scaling: type dynamic depends on the length of the text; GGUF cannot express it");
  }
}

void add_family(const ModelConfig& c, ArchKeys& k) {
  int64_t window = 0;
  for (const int64_t w : c.sliding_window) window = std::max(window, w);
  if (window > 0) k.u32("attention.sliding_window", window);
  if (c.attn_logit_softcapping > 0) k.f32("attn_logit_softcapping", c.attn_logit_softcapping);
  if (c.final_logit_softcapping > 0) k.f32("final_logit_softcapping", c.final_logit_softcapping);
  if (c.model_type == "gemma3_text") k.f32("rope.freq_base_swa", c.rope_local.theta);
  if (c.num_experts == 0) return;
  k.u32("expert_count", c.num_experts);
  k.u32("expert_used_count", c.num_experts_per_tok);
  if (c.model_type != "mixtral") k.u32("expert_feed_forward_length", c.moe_intermediate_size);
}

void add_vocab(text::GgufVocab v, int64_t rows, io::GgufMetadata& out) {
  const size_t own = v.tokens.size();
  if (static_cast<int64_t>(own) > rows)
    fail(ErrorCode::kInput, "tokenizer has {} ids, the model only {} embedding rows", own, rows);
  if (v.token_types.empty()) v.token_types.assign(own, static_cast<int32_t>(text::GgufTokenType::kNormal));
  for (int64_t i = static_cast<int64_t>(own); i < rows; ++i) {
    v.tokens.push_back(fmt::format("[PAD{}]", i));
    v.token_types.push_back(static_cast<int32_t>(text::GgufTokenType::kUnused));
    if (!v.scores.empty()) v.scores.push_back(-10000.0f);
  }
  models::write_gguf_vocab(v, out);
}

void add_sampling(const Json& generation, const std::string& source, io::GgufMetadata& out) {
  if (!generation.is_object()) return;
  const JsonReader r(generation, source);
  if (r.has("temperature")) out.f32("general.sampling.temp", static_cast<float>(r.at("temperature").number(0, 100)));
  if (r.has("top_k")) out.i32("general.sampling.top_k", narrow<int32_t>(r.at("top_k").integer(-1), "top_k"));
  if (r.has("top_p")) out.f32("general.sampling.top_p", static_cast<float>(r.at("top_p").number(0, 1)));
  if (r.has("min_p")) out.f32("general.sampling.min_p", static_cast<float>(r.at("min_p").number(0, 1)));
}

}  // namespace

std::vector<float> llama3_divisors(const models::RopeConfig& rope, int64_t rotary_dim) {
  std::vector<float> divisors;
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double f = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    const double wavelength = 2 * std::numbers::pi / f;
    double divisor = 1;
    if (wavelength > original / rope.low_freq_factor) {
      divisor = rope.factor;
    } else if (wavelength >= original / rope.high_freq_factor) {
      const double s = (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      divisor = 1 / ((1 - s) / rope.factor + s);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

void add_model_metadata(const ModelConfig& c, const GgufHeader& header, io::GgufMetadata& out) {
  const std::string arch = models::gguf_architecture(c);
  out.string("general.architecture", arch);
  out.string("general.type", "model");
  out.string("general.name", header.name);
  out.u32("general.file_type", narrow<uint32_t>(header.file_type, "file_type"));
  if (header.quantised) out.u32("general.quantization_version", 2);
  ArchKeys k(arch, out);
  k.u32("block_count", c.num_hidden_layers);
  k.u32("context_length", c.max_position_embeddings);
  k.u32("embedding_length", c.hidden_size);
  k.u32("feed_forward_length", c.intermediate_size);
  k.u32("attention.head_count", c.num_attention_heads);
  k.u32("attention.head_count_kv", c.num_key_value_heads);
  k.u32("attention.key_length", c.head_dim);
  k.u32("attention.value_length", c.head_dim);
  k.f32("attention.layer_norm_rms_epsilon", c.rms_norm_eps);
  k.u32("vocab_size", c.vocab_size);
  add_rope(c, k);
  add_family(c, k);
}

void add_text_metadata(const io::ModelFiles& files, const ModelConfig& config, io::GgufMetadata& out) {
  if (!files.find("tokenizer.json") && !files.find("tokenizer.model")) return;
  const auto tokenizer = text::load_tokenizer_json(files.path);
  add_vocab(text::to_gguf_vocab(*tokenizer), config.vocab_size, out);
  const text::ChatTemplateSet templates = text::load_chat_templates(files.path);
  if (const text::ChatTemplate* t = templates.choose(false)) out.string("tokenizer.chat_template", t->source());
  if (const text::ChatTemplate* t = templates.find("tool_use"))
    out.string("tokenizer.chat_template.tool_use", t->source());
  add_sampling(io::read_generation_config(files), path_join(files.path, "generation_config.json"), out);
}

void copy_text_metadata(const io::GgufFile& from, io::GgufMetadata& out) {
  for (const io::GgufValue& value : from.values())
    if (value.key.starts_with("tokenizer.") || value.key.starts_with("general.sampling.")) out.copy(value);
}

}  // namespace fettle::compress
