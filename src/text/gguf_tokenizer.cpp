#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"
#include "text/gguf_pre.h"
#include "text/gguf_vocab.h"
#include "text/json_parts.h"
#include "text/models/bpe.h"
#include "text/models/score_bpe.h"
#include "text/models/unigram.h"
#include "text/models/word_models.h"
#include "text/tokenizer.h"

namespace fettle::text {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

class Builder {
 public:
  explicit Builder(const GgufVocab& vocab) : v_(vocab), parts_(std::make_unique<TokenizerParts>()) {
    parts_->source = v_.source;
  }

  std::shared_ptr<const Tokenizer> build() {
    if (!v_.huggingface_json.empty()) {
      parts_ = read_tokenizer_parts(v_.huggingface_json, v_.source + ": tokenizer.huggingface.json", nullptr);
    } else {
      check_lengths();
      read_tokens();
      if (v_.model == "gpt2")
        build_gpt2();
      else if (v_.model == "llama")
        build_llama();
      else if (v_.model == "bert")
        build_bert();
      else if (v_.model == "t5")
        build_t5();
      else
        refuse("tokenizer.ggml.model", "gpt2, llama, bert or t5", v_.model);
    }
    read_ids();
    parts_->gguf = std::make_shared<const GgufVocab>(v_);
    return finish_parts(std::move(parts_));
  }

 private:
  [[noreturn]] void refuse(std::string_view key, std::string_view expected, std::string_view found) const {
    fail(ErrorCode::kInput, "{}: {}: expected {}, found \"{}\"", v_.source, key, expected, printable(found));
  }
  void check_lengths() const {
    const size_t n = v_.tokens.size();
    if (n == 0 || n > kMaxVocabulary)
      fail(ErrorCode::kInput, "{}: tokenizer.ggml.tokens: expected 1 .. {} tokens, found {}", v_.source, kMaxVocabulary,
           n);
    const auto same = [&](size_t size, const char* key) {
      if (size != 0 && size != n)
        fail(ErrorCode::kInput, "{}: {}: expected {} elements as in tokenizer.ggml.tokens, found {}", v_.source, key, n,
             size);
    };
    same(v_.scores.size(), "tokenizer.ggml.scores");
    same(v_.token_types.size(), "tokenizer.ggml.token_type");
    for (float score : v_.scores)
      if (!std::isfinite(score)) fail(ErrorCode::kInput, "{}: tokenizer.ggml.scores: not finite", v_.source);
  }

  GgufTokenType type_of(size_t i) const {
    if (v_.token_types.empty()) {
      const auto is = [&](const std::optional<TokenId>& id) { return id && static_cast<size_t>(*id) == i; };
      if (is(v_.unk)) return GgufTokenType::kUnknown;
      if (is(v_.bos) || is(v_.eos) || is(v_.pad) || is(v_.sep) || is(v_.mask)) return GgufTokenType::kControl;
      if (v_.model == "llama" && parse_byte_token(v_.tokens[i])) return GgufTokenType::kByte;
      return GgufTokenType::kNormal;
    }
    const int32_t type = v_.token_types[i];
    if (type < 0 || type > 6)
      fail(ErrorCode::kInput, "{}: tokenizer.ggml.token_type[{}]: expected 1 .. 6, found {}", v_.source, i, type);
    return type == 0 ? GgufTokenType::kNormal : static_cast<GgufTokenType>(type);  // 0 occurs as "undefined"
  }

  void read_tokens() {
    for (size_t i = 0; i < v_.tokens.size(); ++i) {
      const std::string& text = v_.tokens[i];
      const auto id = static_cast<TokenId>(i);
      if (!utf8::is_valid(text))
        fail(ErrorCode::kInput, "{}: tokenizer.ggml.tokens[{}]: invalid UTF-8 \"{}\"", v_.source, i, printable(text));
      parts_->model_vocab->add_shadowed(id, text, v_.source);
      GgufTokenType type = type_of(i);
      // Files often mark the end of a turn as an ordinary or user-defined token; it must not come from untrusted text.
      if (is_eog_name(text)) type = GgufTokenType::kControl;
      AddedToken token;
      token.id = id;
      token.content = text;
      token.special = type == GgufTokenType::kControl || type == GgufTokenType::kUnknown;
      if (token.special || type == GgufTokenType::kUserDefined) {
        barred_.insert(id);
        if (parts_->model_vocab->find(text) == id) parts_->added.push_back(std::move(token));
      }
      if (type == GgufTokenType::kUnused) unused_.insert(id);
      if (type == GgufTokenType::kByte) {
        if (!parse_byte_token(text))
          fail(ErrorCode::kInput,
               "{}: tokenizer.ggml.tokens[{}]: expected <0x00> .. <0xFF> for a byte token, found \"{}\"", v_.source, i,
               printable(text));
        barred_.insert(id);
      }
    }
    parts_->vocab = *parts_->model_vocab;
  }

  std::optional<TokenId> checked(const std::optional<TokenId>& id, const char* key) const {
    if (id && !parts_->vocab.has(*id))
      fail(ErrorCode::kInput, "{}: tokenizer.ggml.{}_token_id: {} is outside the vocabulary of {}", v_.source, key, *id,
           parts_->vocab.size());
    return id;
  }

  void read_ids() {
    TokenizerParts& p = *parts_;
    p.bos = checked(v_.bos, "bos");
    p.eos = checked(v_.eos, "eos");
    if (const auto unk = checked(v_.unk, "unknown")) p.unk = unk;
    p.pad = checked(v_.pad, "padding");
    for (const auto& id : {checked(v_.eot, "eot"), checked(v_.eom, "eom")})
      if (id) p.extra_eog.push_back(*id);
    const auto sep = checked(v_.sep, "seperator");  // spelt so in the format
    if (v_.model == "llama" && !p.bos && p.vocab.find("<s>") == 1) p.bos = 1;
    if (v_.model == "llama" && !p.eos && p.vocab.find("</s>") == 2) p.eos = 2;
    if (!v_.huggingface_json.empty()) return;  // its post-processor is in place
    const bool bert = v_.model == "bert";
    if (bert && !p.bos && p.vocab.find("[CLS]") >= 0) p.bos = p.vocab.find("[CLS]");
    if (p.bos && v_.add_bos.value_or(default_add_bos_)) p.prefix.push_back(*p.bos);
    if (bert && v_.add_sep.value_or(true)) {
      const TokenId named = p.vocab.find("[SEP]");
      if (sep || named >= 0) p.suffix.push_back(sep.value_or(named));
    } else if (p.eos && v_.add_eos.value_or(v_.model == "t5")) {
      p.suffix.push_back(*p.eos);
    }
  }

  MergeTable read_merges() const {
    if (v_.merges.size() > kMaxMerges)
      fail(ErrorCode::kInput, "{}: tokenizer.ggml.merges: {} merges exceed the limit of {}", v_.source,
           v_.merges.size(), kMaxMerges);
    MergeTable table(v_.merges.size());
    const Vocab& vocab = *parts_->model_vocab;
    for (size_t i = 0; i < v_.merges.size(); ++i) {
      const std::string& text = v_.merges[i];
      const size_t space = text.find(' ', 1);  // a piece may be a space itself, but not begin with one
      if (space == std::string::npos || space + 1 == text.size())
        fail(ErrorCode::kInput, "{}: tokenizer.ggml.merges[{}]: expected \"left right\", found \"{}\"", v_.source, i,
             printable(text));
      const std::string left = text.substr(0, space), right = text.substr(space + 1);
      const TokenId a = vocab.find(left), b = vocab.find(right), result = vocab.find(left + right);
      if (a < 0 || b < 0 || result < 0)
        fail(ErrorCode::kInput, "{}: tokenizer.ggml.merges[{}]: \"{}\" is not in the vocabulary", v_.source, i,
             printable(a < 0   ? left
                       : b < 0 ? right
                               : left + right));
      table.put(a, b, {static_cast<uint32_t>(i), result});
    }
    return table;
  }

  void build_gpt2() {
    const GgufPre* pre = find_gguf_pre(v_.pre);
    if (!pre) {
      std::string known;
      for (const GgufPre& row : gguf_pre_table()) known += (known.empty() ? "" : ", ") + std::string(row.name);
      refuse("tokenizer.ggml.pre", "one of " + known + " (a folder with tokenizer.json works for any model)", v_.pre);
    }
    default_add_bos_ = pre->add_bos;
    parts_->kind = ModelKind::kBpe;
    parts_->byte_level = true;
    if (pre->nfc) {
      std::vector<std::unique_ptr<Normalizer>> steps;
      steps.push_back(make_unicode_form(unicode::Form::kNfc));
      parts_->normalizer = std::make_unique<NormalizerSequence>(std::move(steps));
    }
    parts_->pre_tokenizer = make_gguf_pre_tokenizer(*pre);
    BpeOptions options;
    options.raw_bytes = true;
    options.ignore_merges = pre->ignore_merges;
    parts_->model = std::make_unique<BpeModel>(parts_->model_vocab, read_merges(), options, barred_, v_.source);
    parts_->decoder.push_back(make_byte_level_decoder());
  }

  void need_scores() {
    if (v_.scores.empty())
      fail(ErrorCode::kInput, "{}: tokenizer.ggml.scores: missing, model \"{}\" needs them", v_.source, v_.model);
    parts_->scores = v_.scores;
  }

  void normalize_spaces(bool add_prefix, bool remove_extra) {
    SentencePieceNormalizerOptions options;
    if (!v_.precompiled_charsmap.empty())
      options.charsmap = parts_->charsmap =
          std::make_shared<Charsmap>(v_.precompiled_charsmap, v_.source + ": tokenizer.ggml.precompiled_charsmap");
    options.add_dummy_prefix = add_prefix;
    options.remove_extra_whitespaces = remove_extra;
    std::vector<std::unique_ptr<Normalizer>> steps;
    steps.push_back(make_sentencepiece_normalizer(std::move(options)));
    parts_->normalizer = std::make_unique<NormalizerSequence>(std::move(steps));
  }

  void decode_spaces(bool byte_tokens, bool strip) {
    parts_->decoder.push_back(make_replace_string_decoder(std::string(kSpaceMark), " "));
    if (byte_tokens) parts_->decoder.push_back(make_byte_fallback_decoder());
    parts_->decoder.push_back(make_fuse_decoder());
    if (strip) parts_->decoder.push_back(make_strip_decoder(" ", 1, 0));
  }

  void build_llama() {
    need_scores();
    default_add_bos_ = true;
    const bool prefix = v_.add_space_prefix.value_or(true);
    parts_->kind = ModelKind::kSentencePieceBpe;
    parts_->byte_fallback = true;
    normalize_spaces(prefix, v_.remove_extra_whitespaces.value_or(false));
    const TokenId unk = v_.unk.value_or(parts_->model_vocab->find("<unk>"));
    parts_->model = std::make_unique<ScoreBpeModel>(parts_->model_vocab, parts_->scores, ScoreBpeOptions{unk, true},
                                                    barred_, unused_);
    decode_spaces(true, prefix);
  }

  void build_t5() {
    need_scores();
    const bool prefix = v_.add_space_prefix.value_or(true);
    parts_->kind = ModelKind::kUnigram;
    normalize_spaces(prefix, v_.remove_extra_whitespaces.value_or(true));
    barred_.insert(unused_.begin(), unused_.end());
    const TokenId unk = v_.unk.value_or(parts_->model_vocab->find("<unk>"));
    if (unk >= 0 && static_cast<size_t>(unk) < v_.tokens.size()) parts_->unk = unk;
    parts_->byte_fallback = std::any_of(v_.token_types.begin(), v_.token_types.end(), [](int32_t t) { return t == 6; });
    parts_->model = std::make_unique<UnigramModel>(
        parts_->model_vocab, parts_->scores, UnigramOptions{parts_->unk.value_or(-1), parts_->byte_fallback}, barred_);
    decode_spaces(parts_->byte_fallback, prefix);
  }

  void build_bert() {
    default_add_bos_ = true;
    parts_->kind = ModelKind::kWordPiece;
    WordPieceOptions options;
    options.word_prefix = kSpaceMark;
    options.unk = v_.unk.value_or(parts_->model_vocab->find("[UNK]"));
    if (options.unk >= 0) parts_->unk = options.unk;
    // The format does not say whether the model is cased. A vocabulary of an uncased model has no capital letters.
    BertNormalizerOptions bert;
    bert.lowercase = bert.strip_accents = !has_capitals();
    std::vector<std::unique_ptr<Normalizer>> steps;
    steps.push_back(make_bert_normalizer(bert));
    parts_->normalizer = std::make_unique<NormalizerSequence>(std::move(steps));
    parts_->pre_tokenizer = make_bert_pre_tokenizer();
    parts_->model = std::make_unique<WordPieceModel>(parts_->model_vocab, options, barred_);
    decode_spaces(false, true);
  }

  bool has_capitals() const {
    for (size_t i = 0; i < v_.tokens.size(); ++i) {
      const std::string& t = v_.tokens[i];
      if (t.starts_with(kSpaceMark) && t.size() == kSpaceMark.size() + 1 && t.back() >= 'A' && t.back() <= 'Z' &&
          type_of(i) == GgufTokenType::kNormal)
        return true;
    }
    return false;
  }

  const GgufVocab& v_;
  std::unique_ptr<TokenizerParts> parts_;
  std::unordered_set<TokenId> barred_, unused_;
  bool default_add_bos_ = false;
};

}  // namespace

std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const GgufVocab& vocab) { return Builder(vocab).build(); }

}  // namespace fettle::text
