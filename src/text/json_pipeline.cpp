#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "text/json_parts.h"

namespace fettle::text {
namespace {

[[noreturn]] void unknown_type(const JsonReader& json, std::string_view known) {
  json.at("type").fail_expected("one of " + std::string(known));
}

std::string place(const JsonReader& json) { return json.source() + ": " + json.path(); }

// {"String": text} or {"Regex": text}
struct Pattern {
  bool regex;
  std::string text;
};
Pattern read_pattern(const JsonReader& json) {
  if (json.has("Regex")) return {true, json.get("Regex").string()};
  if (json.has("String")) return {false, json.get("String").string()};
  json.fail_expected("an object with \"String\" or \"Regex\"");
}

std::string read_character(const JsonReader& json) {
  const std::string& text = json.string();
  if (text.empty() || utf8::decode(text, 0).length != text.size()) json.fail_expected("a single character");
  return text;
}

std::string base64_decode(const JsonReader& json) {
  const std::string& text = json.string();
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (size_t i = 0; i < text.size() && text[i] != '='; ++i) {
    const char c = text[i];
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) json.fail_here(fmt::format("character {} is not base64", i));
    bits = bits << 6 | static_cast<uint32_t>(value);
    if ((count += 6) < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count & 0xFF);
  }
  return out;
}

using NormalizerPtr = std::unique_ptr<Normalizer>;

NormalizerPtr bert_normalizer(const JsonReader& json) {
  BertNormalizerOptions options;
  options.clean_text = json.boolean_or("clean_text", true);
  options.handle_chinese_chars = json.boolean_or("handle_chinese_chars", true);
  options.lowercase = json.boolean_or("lowercase", true);
  options.strip_accents = json.boolean_or("strip_accents", options.lowercase);
  return make_bert_normalizer(options);
}

void collect_normalizers(const JsonReader& json, TokenizerParts& parts, std::vector<NormalizerPtr>& steps) {
  const std::string& type = json.at("type").string();
  if (type != "Sequence") parts.pipeline.push_back("norm:" + type);
  if (type == "Sequence") {
    const JsonReader list = json.at("normalizers");
    for (size_t i = 0; i < list.array().size(); ++i) collect_normalizers(list.at(i), parts, steps);
  } else if (type == "NFC") {
    steps.push_back(make_unicode_form(unicode::Form::kNfc));
  } else if (type == "NFD") {
    steps.push_back(make_unicode_form(unicode::Form::kNfd));
  } else if (type == "NFKC") {
    steps.push_back(make_unicode_form(unicode::Form::kNfkc));
  } else if (type == "NFKD") {
    steps.push_back(make_unicode_form(unicode::Form::kNfkd));
  } else if (type == "Lowercase") {
    steps.push_back(make_lowercase());
  } else if (type == "StripAccents") {
    steps.push_back(make_strip_accents());
  } else if (type == "Strip") {
    steps.push_back(make_strip(json.boolean_or("strip_left", true), json.boolean_or("strip_right", true)));
  } else if (type == "Prepend") {
    const std::string& prefix = json.at("prepend").string();
    parts.pipeline.back() += ":" + prefix;
    steps.push_back(make_prepend(prefix));
  } else if (type == "Replace") {
    const Pattern pattern = read_pattern(json.at("pattern"));
    const std::string& content = json.at("content").string();
    parts.pipeline.back() += (pattern.regex ? ":Regex:" : ":String:") + pattern.text + ":" + content;
    steps.push_back(pattern.regex ? make_replace_regex(pattern.text, content, place(json.get("pattern")))
                                  : make_replace_string(pattern.text, content));
  } else if (type == "BertNormalizer") {
    steps.push_back(bert_normalizer(json));
  } else if (type == "Precompiled") {
    const JsonReader blob = json.get("precompiled_charsmap");
    if (blob.is_null()) return;  // written for models without a table
    parts.charsmap = std::make_shared<Charsmap>(base64_decode(blob), place(blob));
    steps.push_back(make_precompiled(parts.charsmap));
  } else if (type == "ByteLevel") {
    steps.push_back(make_byte_level_normalizer());
  } else if (type == "Nmt") {
    steps.push_back(make_nmt());
  } else {
    unknown_type(json,
                 "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, BertNormalizer, "
                 "Precompiled, ByteLevel, Nmt");
  }
}

PrependScheme read_prepend_scheme(const JsonReader& json) {
  const bool has_legacy = json.has("add_prefix_space");
  const bool legacy = json.boolean_or("add_prefix_space", true);
  if (!json.has("prepend_scheme")) return has_legacy && !legacy ? PrependScheme::kNever : PrependScheme::kAlways;
  const std::string& name = json.get("prepend_scheme").string();
  const PrependScheme scheme = name == "always"  ? PrependScheme::kAlways
                               : name == "first" ? PrependScheme::kFirst
                                                 : PrependScheme::kNever;
  if (scheme == PrependScheme::kNever && name != "never")
    json.get("prepend_scheme").fail_expected("always, first or never");
  if (has_legacy && !legacy && scheme != PrependScheme::kNever)
    json.get("add_prefix_space").fail_here("false contradicts prepend_scheme \"" + name + "\"");
  return scheme;
}

using PreTokenizerPtr = std::unique_ptr<PreTokenizer>;

PreTokenizerPtr read_split(const JsonReader& json, TokenizerParts& parts) {
  const Pattern pattern = read_pattern(json.at("pattern"));
  const SplitBehavior behavior = parse_split_behavior(json.at("behavior").string(), place(json.get("behavior")));
  const bool invert = json.boolean_or("invert", false);
  parts.pipeline.back() += fmt::format(":{}:{}{}:{}", pattern.regex ? "Regex" : "String", json.get("behavior").string(),
                                       invert ? ":invert" : "", pattern.text);
  if (!pattern.regex) return make_string_split(pattern.text, behavior, invert);
  return make_regex_split(pattern.text, behavior, invert, place(json.get("pattern")));
}

void collect_pre_tokenizers(const JsonReader& json, bool raw_bytes_model, bool last, TokenizerParts& parts,
                            std::vector<PreTokenizerPtr>& steps) {
  const std::string& type = json.at("type").string();
  if (type != "Sequence") parts.pipeline.push_back("pre:" + type);
  if (type == "Sequence") {
    const JsonReader list = json.at("pretokenizers");
    const size_t n = list.array().size();
    for (size_t i = 0; i < n; ++i)
      collect_pre_tokenizers(list.at(i), raw_bytes_model, last && i + 1 == n, parts, steps);
  } else if (type == "Split") {
    steps.push_back(read_split(json, parts));
  } else if (type == "ByteLevel") {
    const bool regex = json.boolean_or("use_regex", true);
    const bool prefix = json.boolean_or("add_prefix_space", true);
    parts.byte_level = last && raw_bytes_model;
    parts.pipeline.back() += fmt::format("{}{}", prefix ? ":prefix" : "", regex ? ":regex" : "");
    steps.push_back(make_byte_level(prefix, regex, !parts.byte_level));
  } else if (type == "Metaspace") {
    const std::string replacement = json.has("replacement") ? read_character(json.get("replacement")) : "\xE2\x96\x81";
    const PrependScheme scheme = read_prepend_scheme(json);
    const bool split = json.boolean_or("split", true);
    parts.pipeline.back() += fmt::format(":{}:{}:{}", replacement, scheme == PrependScheme::kNever ? "never" : "prefix",
                                         split ? "split" : "whole");
    steps.push_back(make_metaspace(replacement, scheme, split));
  } else if (type == "Digits") {
    const bool individual = json.boolean_or("individual_digits", false);
    if (individual) parts.pipeline.back() += ":individual";
    steps.push_back(make_digits(individual));
  } else if (type == "Punctuation") {
    const SplitBehavior behavior = parse_split_behavior(json.string_or("behavior", "Isolated"), place(json));
    steps.push_back(make_punctuation(behavior));
  } else if (type == "Whitespace") {
    steps.push_back(make_whitespace());
  } else if (type == "WhitespaceSplit") {
    steps.push_back(make_whitespace_split());
  } else if (type == "BertPreTokenizer") {
    steps.push_back(make_bert_pre_tokenizer());
  } else if (type == "UnicodeScripts") {
    steps.push_back(make_unicode_scripts());
  } else if (type == "FixedLength") {
    steps.push_back(make_fixed_length(static_cast<size_t>(json.integer_or("length", 5, 1, 1 << 20))));
  } else if (type == "CharDelimiterSplit") {
    steps.push_back(make_string_split(read_character(json.at("delimiter")), SplitBehavior::kRemoved, false));
  } else {
    unknown_type(json,
                 "Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, "
                 "BertPreTokenizer, UnicodeScripts, FixedLength, CharDelimiterSplit");
  }
}

TokenId checked_id(const JsonReader& json) { return static_cast<TokenId>(json.integer(0, kMaxVocabulary - 1)); }

// One side of a template: [{"SpecialToken": {"id": name}} | {"Sequence": {"id": "A"}}, ...]
void read_template(const JsonReader& json, TokenizerParts& parts) {
  const JsonReader single = json.at("single"), specials = json.at("special_tokens");
  bool after_text = false;
  for (size_t i = 0; i < single.array().size(); ++i) {
    const JsonReader item = single.at(i);
    if (item.has("Sequence")) {
      if (item.get("Sequence").at("id").string() != "A" || after_text) item.fail_expected("sequence A once");
      after_text = true;
      continue;
    }
    const JsonReader ids = specials.at(item.at("SpecialToken").at("id").string()).at("ids");
    for (size_t k = 0; k < ids.array().size(); ++k)
      (after_text ? parts.suffix : parts.prefix).push_back(checked_id(ids.at(k)));
  }
  if (!after_text) single.fail_expected("a template with sequence A");
}

void read_one_post_processor(const JsonReader& json, TokenizerParts& parts) {
  const std::string& type = json.at("type").string();
  if (type == "Sequence") {
    const JsonReader list = json.at("processors");
    for (size_t i = 0; i < list.array().size(); ++i) read_one_post_processor(list.at(i), parts);
  } else if (type == "TemplateProcessing") {
    read_template(json, parts);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    parts.prefix.insert(parts.prefix.begin(), checked_id(json.at("cls").at(1)));
    parts.suffix.push_back(checked_id(json.at("sep").at(1)));
  } else if (type != "ByteLevel") {  // ByteLevel only moves offsets
    unknown_type(json, "Sequence, TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel");
  }
}

void collect_decoders(const JsonReader& json, Decoder& stages) {
  const std::string& type = json.at("type").string();
  if (type == "Sequence") {
    const JsonReader list = json.at("decoders");
    for (size_t i = 0; i < list.array().size(); ++i) collect_decoders(list.at(i), stages);
  } else if (type == "ByteLevel") {
    stages.push_back(make_byte_level_decoder());
  } else if (type == "ByteFallback") {
    stages.push_back(make_byte_fallback_decoder());
  } else if (type == "Metaspace") {
    const std::string replacement = json.has("replacement") ? read_character(json.get("replacement")) : "\xE2\x96\x81";
    stages.push_back(make_metaspace_decoder(replacement, read_prepend_scheme(json) != PrependScheme::kNever));
  } else if (type == "Fuse") {
    stages.push_back(make_fuse_decoder());
  } else if (type == "Strip") {
    stages.push_back(make_strip_decoder(read_character(json.at("content")),
                                        static_cast<size_t>(json.at("start").integer(0, kMaxPieceBytes)),
                                        static_cast<size_t>(json.at("stop").integer(0, kMaxPieceBytes))));
  } else if (type == "Replace") {
    const Pattern pattern = read_pattern(json.at("pattern"));
    const std::string& content = json.at("content").string();
    stages.push_back(pattern.regex ? make_replace_regex_decoder(pattern.text, content, place(json.get("pattern")))
                                   : make_replace_string_decoder(pattern.text, content));
  } else if (type == "BPEDecoder") {
    stages.push_back(make_bpe_decoder(json.string_or("suffix", "</w>")));
  } else if (type == "WordPiece") {
    stages.push_back(make_wordpiece_decoder(json.string_or("prefix", "##"), json.boolean_or("cleanup", true)));
  } else if (type == "CTC") {
    stages.push_back(make_ctc_decoder(json.string_or("pad_token", "<pad>"), json.string_or("word_delimiter_token", "|"),
                                      json.boolean_or("cleanup", true)));
  } else {
    unknown_type(json,
                 "Sequence, ByteLevel, ByteFallback, Metaspace, Fuse, Strip, Replace, BPEDecoder, WordPiece, CTC");
  }
}

}  // namespace

std::unique_ptr<Normalizer> read_normalizer(const JsonReader& json, TokenizerParts& parts) {
  if (json.is_null()) return nullptr;
  std::vector<NormalizerPtr> steps;
  collect_normalizers(json, parts, steps);
  if (steps.empty()) return nullptr;
  return std::make_unique<NormalizerSequence>(std::move(steps));
}

std::unique_ptr<PreTokenizer> read_pre_tokenizer(const JsonReader& json, bool raw_bytes_model, TokenizerParts& parts) {
  if (json.is_null()) return nullptr;
  std::vector<PreTokenizerPtr> steps;
  collect_pre_tokenizers(json, raw_bytes_model, true, parts, steps);
  return make_sequence(std::move(steps));
}

void read_post_processor(const JsonReader& json, TokenizerParts& parts) {
  if (!json.is_null()) read_one_post_processor(json, parts);
}

void read_decoder(const JsonReader& json, TokenizerParts& parts) {
  if (json.is_null())
    parts.decoder.push_back(make_space_join_decoder());
  else
    collect_decoders(json, parts.decoder);
}

}  // namespace fettle::text
