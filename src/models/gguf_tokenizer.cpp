#include "models/gguf_tokenizer.h"

#include "base/checked.h"
#include "base/error.h"

namespace fettle::models {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

std::string key(std::string_view name) { return std::string(kPrefix) + std::string(name); }

// Members of GgufVocab that are single ids or flags, with their keys.
struct IdKey {
  std::string_view name;
  std::optional<text::TokenId> text::GgufVocab::*member;
};
constexpr IdKey kIds[] = {
    {"bos_token_id", &text::GgufVocab::bos},     {"eos_token_id", &text::GgufVocab::eos},
    {"eot_token_id", &text::GgufVocab::eot},     {"eom_token_id", &text::GgufVocab::eom},
    {"unknown_token_id", &text::GgufVocab::unk}, {"seperator_token_id", &text::GgufVocab::sep},  // spelt so
    {"padding_token_id", &text::GgufVocab::pad}, {"mask_token_id", &text::GgufVocab::mask},
};
struct FlagKey {
  std::string_view name;
  std::optional<bool> text::GgufVocab::*member;
};
constexpr FlagKey kFlags[] = {
    {"add_bos_token", &text::GgufVocab::add_bos},
    {"add_eos_token", &text::GgufVocab::add_eos},
    {"add_sep_token", &text::GgufVocab::add_sep},
    {"add_space_prefix", &text::GgufVocab::add_space_prefix},
    {"remove_extra_whitespaces", &text::GgufVocab::remove_extra_whitespaces},
};

// Arrays of i8 or u8.
std::string read_bytes(const io::GgufFile& file, const std::string& name) {
  const io::GgufValue* value = file.find_value(name);
  if (!value) return {};
  if (value->type != io::GgufType::kArray || value->raw.size() != value->count)
    fail(ErrorCode::kInput, "{}: {}: expected an array of bytes, found {}", file.path(), name, value->type_text());
  return {reinterpret_cast<const char*>(value->raw.data()), value->raw.size()};
}

}  // namespace

text::GgufVocab gguf_vocab(const io::GgufFile& file) {
  text::GgufVocab v;
  v.source = file.path();
  v.model = file.string(key("model"));
  v.pre = file.string_or(key("pre"), "");
  for (std::string_view token : file.strings(key("tokens"))) v.tokens.emplace_back(token);
  if (file.has(key("scores"))) v.scores = file.numbers(key("scores"));
  if (file.has(key("token_type")))
    for (int64_t type : file.integers(key("token_type")))
      v.token_types.push_back(narrow<int32_t>(type, "tokenizer.ggml.token_type"));
  if (file.has(key("merges")))
    for (std::string_view merge : file.strings(key("merges"))) v.merges.emplace_back(merge);
  for (const IdKey& id : kIds)
    if (file.has(key(id.name))) v.*id.member = static_cast<text::TokenId>(file.integer(key(id.name), 0, INT32_MAX));
  for (const FlagKey& flag : kFlags)
    if (file.has(key(flag.name))) v.*flag.member = file.boolean(key(flag.name));
  v.precompiled_charsmap = read_bytes(file, key("precompiled_charsmap"));
  v.chat_template = file.string_or("tokenizer.chat_template", "");
  v.huggingface_json = file.string_or("tokenizer.huggingface.json", "");
  return v;
}

void write_gguf_vocab(const text::GgufVocab& vocab, io::GgufMetadata& metadata) {
  metadata.string(key("model"), vocab.model);
  if (!vocab.pre.empty()) metadata.string(key("pre"), vocab.pre);
  metadata.strings(key("tokens"), vocab.tokens);
  if (!vocab.scores.empty()) metadata.f32s(key("scores"), vocab.scores);
  if (!vocab.token_types.empty()) metadata.i32s(key("token_type"), vocab.token_types);
  // llama.cpp refuses a gpt2 vocabulary without the key, even one that merges nothing.
  if (!vocab.merges.empty() || vocab.model == "gpt2") metadata.strings(key("merges"), vocab.merges);
  for (const IdKey& id : kIds)
    if (const auto& value = vocab.*id.member) metadata.u32(key(id.name), static_cast<uint32_t>(*value));
  for (const FlagKey& flag : kFlags)
    if (const auto& value = vocab.*flag.member) metadata.boolean(key(flag.name), *value);
  if (!vocab.precompiled_charsmap.empty()) metadata.u8s(key("precompiled_charsmap"), vocab.precompiled_charsmap);
  if (!vocab.chat_template.empty()) metadata.string("tokenizer.chat_template", vocab.chat_template);
  if (!vocab.huggingface_json.empty()) metadata.string("tokenizer.huggingface.json", vocab.huggingface_json);
}

}  // namespace fettle::models
