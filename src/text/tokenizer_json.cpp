#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/json_parts.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

constexpr JsonLimits kTokenizerLimits{size_t{256} << 20, 64};
constexpr JsonLimits kConfigLimits{size_t{16} << 20, 64};

AddedToken read_added_token(const JsonReader& json, TokenId id) {
  AddedToken token;
  token.id = id;
  token.content = json.at("content").string();
  token.single_word = json.boolean_or("single_word", false);
  token.lstrip = json.boolean_or("lstrip", false);
  token.rstrip = json.boolean_or("rstrip", false);
  token.special = json.boolean_or("special", false);
  token.normalized = json.boolean_or("normalized", !token.special);
  return token;
}

void add_token(AddedToken token, TokenizerParts& parts) {
  parts.vocab.add(token.id, token.content, parts.source);
  parts.added.push_back(std::move(token));
}

}  // namespace

void read_added_tokens(const JsonReader& json, TokenizerParts& parts) {
  parts.vocab = *parts.model_vocab;
  if (json.is_null()) return;
  for (size_t i = 0; i < json.array().size(); ++i) {
    const JsonReader item = json.at(i);
    const auto id = static_cast<TokenId>(item.at("id").integer(0, kMaxVocabulary - 1));
    add_token(read_added_token(item, id), parts);
  }
}

namespace {

// The configuration files around a tokenizer.json; members are null when a file is absent.
struct Folder {
  explicit Folder(const std::string& dir) : dir_(dir) {}
  Json read(const char* name) const {
    const std::string path = path_join(dir_, name);
    return file_exists(path) ? parse_json_file(path, kConfigLimits) : Json();
  }
  JsonReader reader(const char* name, const Json& value) const { return JsonReader(value, path_join(dir_, name)); }

 private:
  std::string dir_;
};

// Tokens that only tokenizer_config.json (added_tokens_decoder) or the older added_tokens.json know.
void read_extra_added_tokens(const JsonReader& config, const JsonReader& legacy, TokenizerParts& parts) {
  const auto known = [&](const std::string& content) {
    return std::any_of(parts.added.begin(), parts.added.end(),
                       [&](const AddedToken& t) { return t.content == content; });
  };
  if (config.has("added_tokens_decoder")) {
    const JsonReader table = config.get("added_tokens_decoder");
    for (const auto& [key, value] : table.object()) {
      const JsonReader item = table.get(key);
      if (known(item.at("content").string())) continue;
      if (key.empty() || key.size() > 7 || key.find_first_not_of("0123456789") != std::string::npos)
        item.fail_here("the key is not a token id");
      TokenId id = 0;
      for (char c : key) id = id * 10 + (c - '0');
      add_token(read_added_token(item, id), parts);
    }
  }
  if (legacy.is_null()) return;
  for (const auto& [content, id] : legacy.object()) {
    if (known(content)) continue;
    AddedToken token;
    token.content = content;
    token.id = static_cast<TokenId>(legacy.get(content).integer(0, kMaxVocabulary - 1));
    token.normalized = true;
    add_token(std::move(token), parts);
  }
}

// "bos_token": "<s>" or {"content": "<s>", ...}
std::optional<TokenId> named_token(const JsonReader& config, const JsonReader& map, const char* key, bool required,
                                   const TokenizerParts& parts) {
  const JsonReader& from = config.has(key) ? config : map;
  if (!from.has(key)) return std::nullopt;
  const JsonReader value = from.get(key);
  const std::string& content = value.value().is_object() ? value.at("content").string() : value.string();
  if (content.empty()) return std::nullopt;
  const TokenId id = parts.vocab.find(content);
  if (id >= 0) return id;
  if (required) value.fail_here(fmt::format("\"{}\" is not a token of {}", printable(content), parts.source));
  return std::nullopt;
}

void collect_ids(const JsonReader& json, const char* key, std::vector<TokenId>& ids) {
  if (!json.has(key)) return;
  const JsonReader value = json.get(key);
  if (!value.value().is_array()) {
    ids.push_back(static_cast<TokenId>(value.integer(0, kMaxVocabulary - 1)));
    return;
  }
  for (size_t i = 0; i < value.array().size(); ++i)
    ids.push_back(static_cast<TokenId>(value.at(i).integer(0, kMaxVocabulary - 1)));
}

// These tokenizer classes build their post-processor from two flags, whatever tokenizer.json says.
bool flags_decide(const std::string& tokenizer_class) {
  for (const char* name : {"LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer"})
    if (tokenizer_class == name || tokenizer_class == std::string(name) + "Fast") return true;
  return false;
}

void apply_flags(const JsonReader& config, TokenizerParts& parts) {
  if (!flags_decide(config.string_or("tokenizer_class", ""))) return;
  const auto set = [&](const char* key, std::optional<TokenId> id, bool front, std::vector<TokenId>& side) {
    if (!config.has(key) || !id) return;
    const bool wanted = config.get(key).boolean();
    const bool present = !side.empty() && (front ? side.front() : side.back()) == *id;
    if (wanted && !present) side.insert(front ? side.begin() : side.end(), *id);
    if (!wanted && present) side.erase(front ? side.begin() : side.end() - 1);
  };
  set("add_bos_token", parts.bos, true, parts.prefix);
  set("add_eos_token", parts.eos, false, parts.suffix);
}

void read_configuration(const std::string& dir, TokenizerParts& parts) {
  const Folder folder(dir);
  const Json config_json = folder.read("tokenizer_config.json"), map_json = folder.read("special_tokens_map.json"),
             generation_json = folder.read("generation_config.json"), model_json = folder.read("config.json");
  const JsonReader config = folder.reader("tokenizer_config.json", config_json),
                   map = folder.reader("special_tokens_map.json", map_json),
                   generation = folder.reader("generation_config.json", generation_json),
                   model = folder.reader("config.json", model_json);
  // What the configuration names wins over what the tokenizer file itself says (SentencePiece models do).
  if (const auto bos = named_token(config, map, "bos_token", true, parts)) parts.bos = bos;
  if (const auto eos = named_token(config, map, "eos_token", true, parts)) parts.eos = eos;
  if (const auto unk = named_token(config, map, "unk_token", false, parts)) parts.unk = unk;
  if (const auto pad = named_token(config, map, "pad_token", false, parts)) parts.pad = pad;
  collect_ids(model, "eos_token_id", parts.extra_eog);
  collect_ids(generation, "eos_token_id", parts.extra_eog);
  if (!parts.eos) {
    std::vector<TokenId> ids;
    collect_ids(generation.has("eos_token_id") ? generation : model, "eos_token_id", ids);
    if (!ids.empty()) parts.eos = ids.front();
  }
  if (!parts.bos) {
    std::vector<TokenId> ids;
    collect_ids(generation.has("bos_token_id") ? generation : model, "bos_token_id", ids);
    if (!ids.empty()) parts.bos = ids.front();
  }
  apply_flags(config, parts);
  if (parts.kind == ModelKind::kWordPiece && config.boolean_or("clean_up_tokenization_spaces", false))
    append_cleanup(parts.decoder);
}

}  // namespace

std::unique_ptr<TokenizerParts> read_tokenizer_parts(std::string text, std::string_view source,
                                                     const std::string* dir) {
  auto parts = std::make_unique<TokenizerParts>();
  parts->source = source;
  {
    const Json json = parse_json(text, source, kTokenizerLimits);
    const JsonReader root(json, std::string(source));
    read_vocabulary(root.at("model"), *parts);
    read_added_tokens(root.get("added_tokens"), *parts);
    if (dir) {
      const Folder folder(*dir);
      const Json config = folder.read("tokenizer_config.json"), legacy = folder.read("added_tokens.json");
      read_extra_added_tokens(folder.reader("tokenizer_config.json", config),
                              folder.reader("added_tokens.json", legacy), *parts);
    }
    parts->normalizer = read_normalizer(root.get("normalizer"), *parts);
    const JsonReader model = root.get("model");
    const bool raw_bytes = parts->kind == ModelKind::kBpe && model.string_or("continuing_subword_prefix", "").empty() &&
                           model.string_or("end_of_word_suffix", "").empty() &&
                           !model.boolean_or("byte_fallback", false);
    parts->pre_tokenizer = read_pre_tokenizer(root.get("pre_tokenizer"), raw_bytes, *parts);
    read_post_processor(root.get("post_processor"), *parts);
    read_decoder(root.get("decoder"), *parts);
    read_model(model, *parts);
  }
  parts->tokenizer_json = std::move(text);
  return parts;
}

std::shared_ptr<const Tokenizer> parse_tokenizer_json(std::string text, std::string_view source) {
  return finish_parts(read_tokenizer_parts(std::move(text), source, nullptr));
}

std::shared_ptr<const Tokenizer> load_tokenizer_json(const std::string& dir_or_file) {
  const bool is_dir = is_directory(dir_or_file);
  const size_t slash = dir_or_file.rfind('/');
  const std::string dir = is_dir ? dir_or_file : slash == std::string::npos ? "." : dir_or_file.substr(0, slash);
  const std::string path = is_dir ? path_join(dir, "tokenizer.json") : dir_or_file;
  if (is_dir && !file_exists(path)) {
    const std::string sentencepiece = path_join(dir, "tokenizer.model");
    if (file_exists(sentencepiece)) {
      auto parts = read_sentencepiece_parts(read_file(sentencepiece, kTokenizerLimits.max_bytes), sentencepiece);
      read_configuration(dir, *parts);
      return finish_parts(std::move(parts));
    }
    fail(ErrorCode::kIo, "{}: holds neither tokenizer.json nor tokenizer.model", dir);
  }
  auto parts = read_tokenizer_parts(read_file(path, kTokenizerLimits.max_bytes), path, &dir);
  read_configuration(dir, *parts);
  return finish_parts(std::move(parts));
}

}  // namespace fettle::text
