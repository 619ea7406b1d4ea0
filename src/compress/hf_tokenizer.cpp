#include "compress/hf_tokenizer.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/json.h"
#include "base/log.h"
#include "base/random.h"
#include "base/utf8.h"
#include "models/gguf_tokenizer.h"
#include "text/gguf_pre.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace fettle::compress {
namespace {

using text::GgufTokenType;
using text::GgufVocab;
using text::TokenId;

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

Json object(std::initializer_list<std::pair<std::string_view, Json>> members) {
  Json out = Json::object();
  for (const auto& [key, value] : members) out[key] = value;
  return out;
}

GgufTokenType type_of(const GgufVocab& v, size_t i) {
  return v.token_types.empty() ? GgufTokenType::kNormal : static_cast<GgufTokenType>(v.token_types[i]);
}

Json added_tokens(const GgufVocab& v) {
  Json list = Json::array();
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const GgufTokenType type = type_of(v, i);
    const bool special = type == GgufTokenType::kControl || type == GgufTokenType::kUnknown;
    if (!special && type != GgufTokenType::kUserDefined) continue;
    list.push_back(object({{"id", static_cast<int64_t>(i)},
                           {"content", v.tokens[i]},
                           {"single_word", false},
                           {"lstrip", false},
                           {"rstrip", false},
                           {"normalized", false},
                           {"special", special}}));
  }
  return list;
}

Json vocabulary(const GgufVocab& v) {
  Json::Object members;
  for (size_t i = 0; i < v.tokens.size(); ++i)
    if (type_of(v, i) != GgufTokenType::kUnused) members.emplace_back(v.tokens[i], Json(static_cast<int64_t>(i)));
  return Json(std::move(members));
}

Json merge_list(const std::vector<std::pair<std::string, std::string>>& merges) {
  Json list = Json::array();
  for (const auto& [left, right] : merges) list.push_back(Json(Json::Array{Json(left), Json(right)}));
  return list;
}

std::vector<std::pair<std::string, std::string>> stored_merges(const GgufVocab& v) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const std::string& m : v.merges) {
    const size_t space = m.find(' ', 1);  // a piece may itself begin with a space-like symbol, never with a space
    if (space == std::string::npos)
      fail(ErrorCode::kInput, "{}: tokenizer.ggml.merges: expected two pieces, found \"{}\"", v.source, printable(m));
    merges.emplace_back(m.substr(0, space), m.substr(space + 1));
  }
  return merges;
}

// SentencePiece merges by the score of the result. As ranked pairs: every split of a piece into two known pieces,
// pieces of higher score first; splits of one piece by their ids, as the Hugging Face converter orders them.
std::vector<std::pair<std::string, std::string>> merges_from_scores(const GgufVocab& v) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < v.tokens.size(); ++i)
    if (type_of(v, i) == GgufTokenType::kNormal) ids.emplace(v.tokens[i], i);
  struct Row {
    float score;
    size_t left, right;
  };
  std::vector<Row> rows;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (type_of(v, i) != GgufTokenType::kNormal) continue;
    const std::string_view piece = v.tokens[i];
    std::vector<Row> local;
    for (size_t at = 0; at < piece.size();) {
      at += utf8::decode(piece, at).length;
      const auto left = ids.find(piece.substr(0, at)), right = ids.find(piece.substr(at));
      if (at < piece.size() && left != ids.end() && right != ids.end())
        local.push_back({v.scores.empty() ? 0.0f : v.scores[i], left->second, right->second});
    }
    std::sort(local.begin(), local.end(),
              [](const Row& a, const Row& b) { return a.left != b.left ? a.left < b.left : a.right < b.right; });
    rows.insert(rows.end(), local.begin(), local.end());
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.score > b.score; });
  std::vector<std::pair<std::string, std::string>> merges;
  for (const Row& r : rows) merges.emplace_back(v.tokens[r.left], v.tokens[r.right]);
  return merges;
}

Json bos_template(const GgufVocab& v, bool add_bos) {
  if (!add_bos || !v.bos) return {};
  const std::string& bos = v.tokens.at(static_cast<size_t>(*v.bos));
  const Json first = object({{"SpecialToken", object({{"id", bos}, {"type_id", 0}})}});
  const Json text = object({{"Sequence", object({{"id", "A"}, {"type_id", 0}})}});
  const Json second = object({{"Sequence", object({{"id", "B"}, {"type_id", 1}})}});
  Json special = Json::object();
  special[bos] = object({{"id", bos}, {"ids", Json::Array{Json(int64_t{*v.bos})}}, {"tokens", Json::Array{Json(bos)}}});
  return object({{"type", "TemplateProcessing"},
                 {"single", Json::Array{first, text}},
                 {"pair", Json::Array{first, text, second}},
                 {"special_tokens", special}});
}

Json bpe_model(const GgufVocab& v, const std::vector<std::pair<std::string, std::string>>& merges, bool byte_fallback,
               bool ignore_merges) {
  Json unk;
  if (byte_fallback && v.unk) unk = v.tokens.at(static_cast<size_t>(*v.unk));
  return object({{"type", "BPE"},
                 {"dropout", Json()},
                 {"unk_token", unk},
                 {"continuing_subword_prefix", Json()},
                 {"end_of_word_suffix", Json()},
                 {"fuse_unk", byte_fallback},
                 {"byte_fallback", byte_fallback},
                 {"ignore_merges", ignore_merges},
                 {"vocab", vocabulary(v)},
                 {"merges", merge_list(merges)}});
}

Json assemble(const GgufVocab& v, Json normalizer, Json pre, Json post, Json decoder, Json model) {
  return object({{"version", "1.0"},
                 {"truncation", Json()},
                 {"padding", Json()},
                 {"added_tokens", added_tokens(v)},
                 {"normalizer", std::move(normalizer)},
                 {"pre_tokenizer", std::move(pre)},
                 {"post_processor", std::move(post)},
                 {"decoder", std::move(decoder)},
                 {"model", std::move(model)}});
}

Json byte_level(bool use_regex) {
  return object({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}});
}

Json gpt2_tokenizer(const GgufVocab& v) {
  const text::GgufPre* pre = text::find_gguf_pre(v.pre);
  if (pre == nullptr)
    fail(ErrorCode::kInput, "{}: tokenizer.ggml.pre: \"{}\" is not known", v.source, printable(v.pre));
  Json steps = Json::array();
  for (const std::string_view pattern : pre->splits)
    steps.push_back(object(
        {{"type", "Split"}, {"pattern", object({{"Regex", pattern}})}, {"behavior", "Isolated"}, {"invert", false}}));
  steps.push_back(byte_level(false));
  return assemble(v, pre->nfc ? object({{"type", "NFC"}}) : Json(),
                  object({{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}),
                  bos_template(v, v.add_bos.value_or(pre->add_bos)), byte_level(true),
                  bpe_model(v, stored_merges(v), false, pre->ignore_merges));
}

Json llama_tokenizer(const GgufVocab& v) {
  const bool prefix = v.add_space_prefix.value_or(true);
  Json normalizers = Json::array();
  if (prefix) normalizers.push_back(object({{"type", "Prepend"}, {"prepend", kSpaceMark}}));
  normalizers.push_back(object({{"type", "Replace"}, {"pattern", object({{"String", " "}})}, {"content", kSpaceMark}}));
  Json decoders = Json::array();
  decoders.push_back(object({{"type", "Replace"}, {"pattern", object({{"String", kSpaceMark}})}, {"content", " "}}));
  decoders.push_back(object({{"type", "ByteFallback"}}));
  decoders.push_back(object({{"type", "Fuse"}}));
  if (prefix) decoders.push_back(object({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}));
  return assemble(v, object({{"type", "Sequence"}, {"normalizers", std::move(normalizers)}}), Json(),
                  bos_template(v, v.add_bos.value_or(true)),
                  object({{"type", "Sequence"}, {"decoders", std::move(decoders)}}),
                  bpe_model(v, merges_from_scores(v), true, false));
}

Json tokenizer_config(const GgufVocab& v) {
  Json config = object({{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}});
  const auto name = [&](const char* key, const std::optional<TokenId>& id) {
    if (id && static_cast<size_t>(*id) < v.tokens.size()) config[key] = v.tokens[static_cast<size_t>(*id)];
  };
  name("bos_token", v.bos);
  name("eos_token", v.eos);
  name("unk_token", v.unk);
  name("pad_token", v.pad);
  if (v.add_bos) config["add_bos_token"] = *v.add_bos;
  if (v.add_eos) config["add_eos_token"] = *v.add_eos;
  if (!v.chat_template.empty()) config["chat_template"] = v.chat_template;
  return config;
}

// Texts made of the vocabulary's own pieces meet every merge sooner or later.
void require_same_ids(const text::Tokenizer& own, const text::Tokenizer& made, const std::string& source) {
  Random random(1);
  for (int i = 0; i < 1000; ++i) {
    std::string text;
    for (int piece = 0; piece < 12; ++piece) {
      const auto id = static_cast<TokenId>(random.below(own.vocab_size()));
      if (!own.is_special(id)) text += own.token_bytes(id);
    }
    text = utf8::sanitize(text);
    if (own.encode(text) != made.encode(text))
      fail(ErrorCode::kInput, "{}: its tokenizer cannot be written as tokenizer.json: the ids of \"{}\" differ", source,
           printable(text));
  }
}

}  // namespace

void write_hf_tokenizer(const io::GgufFile& file, const OutputDir& dir) {
  const GgufVocab v = models::gguf_vocab(file);
  std::string json = v.huggingface_json;
  if (json.empty() && v.model == "gpt2") json = gpt2_tokenizer(v).dump(1) + "\n";
  if (json.empty() && v.model == "llama" && v.precompiled_charsmap.empty()) json = llama_tokenizer(v).dump(1) + "\n";
  if (json.empty()) {
    log_warning("{}: tokenizer model \"{}\" has no tokenizer.json form here; the folder will have no tokenizer",
                file.path(), printable(v.model));
    return;
  }
  write_file_atomic(dir.file("tokenizer_config.json"), tokenizer_config(v).dump(1) + "\n");
  write_file_atomic(dir.file("tokenizer.json"), json);
  require_same_ids(*text::make_gguf_tokenizer(v), *text::load_tokenizer_json(dir.path()), file.path());
}

}  // namespace fettle::compress
