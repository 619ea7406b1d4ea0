#include "base/error.h"
#include "base/file.h"
#include "text/gguf_vocab.h"
#include "text/json_parts.h"
#include "text/models/bpe.h"
#include "text/models/score_bpe.h"
#include "text/models/unigram.h"
#include "text/sentencepiece_proto.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

namespace fettle::text {
namespace {

constexpr size_t kMaxModelBytes = size_t{256} << 20;
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

struct PieceSets {
  std::unordered_set<TokenId> barred, unused;
};

// Vocabulary, scores and added tokens. Control pieces are added tokens of the raw text; user-defined ones are found in
// the normalised text, which the normalizer leaves them intact in.
PieceSets read_pieces(const SentencePieceModel& model, TokenizerParts& parts) {
  PieceSets sets;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    const auto id = static_cast<TokenId>(i);
    parts.model_vocab->add(id, piece.text, parts.source);
    parts.scores.push_back(piece.score);
    AddedToken token;
    token.id = id;
    token.content = piece.text;
    switch (static_cast<GgufTokenType>(piece.type)) {
      case GgufTokenType::kControl:
      case GgufTokenType::kUnknown:
        sets.barred.insert(id);
        token.special = true;
        parts.added.push_back(token);
        break;
      case GgufTokenType::kUserDefined:
        token.normalized = true;
        parts.added.push_back(token);
        break;
      case GgufTokenType::kByte:
        if (!parse_byte_token(piece.text))
          fail(ErrorCode::kInput, "{}: piece {}: expected <0x00> .. <0xFF> for type BYTE, found \"{}\"", parts.source,
               i, printable(piece.text));
        sets.barred.insert(id);
        break;
      case GgufTokenType::kUnused:
        sets.unused.insert(id);
        break;
      case GgufTokenType::kNormal:
        break;
    }
  }
  parts.vocab = *parts.model_vocab;
  return sets;
}

std::optional<TokenId> read_id(int32_t id, const char* name, const TokenizerParts& parts) {
  if (id < 0) return std::nullopt;
  if (!parts.vocab.has(id))
    fail(ErrorCode::kInput, "{}: trainer_spec.{}: id {} is outside the vocabulary of {}", parts.source, name, id,
         parts.vocab.size());
  return id;
}

std::string escape_spaces(std::string_view text) {
  std::string out;
  for (char c : text)
    if (c == ' ')
      out += kSpaceMark;
    else
      out += c;
  return out;
}

void build_matchers(TokenizerParts& parts) {
  for (const AddedToken& token : parts.added) {
    if (token.normalized)
      parts.normalized_matcher.add(token, escape_spaces(token.content));
    else
      parts.raw_matcher.add(token, token.content);
  }
  parts.matchers_filled = true;
}

void build_normalizer(const SentencePieceModel& model, TokenizerParts& parts) {
  SentencePieceNormalizerOptions options;
  if (!model.precompiled_charsmap.empty())
    options.charsmap = parts.charsmap = std::make_shared<Charsmap>(model.precompiled_charsmap, parts.source);
  options.add_dummy_prefix = model.add_dummy_prefix;
  options.remove_extra_whitespaces = model.remove_extra_whitespaces;
  options.escape_whitespaces = model.escape_whitespaces;
  for (const AddedToken& token : parts.added)
    if (token.normalized) options.keep.push_back(token.content);
  std::vector<std::unique_ptr<Normalizer>> steps;
  steps.push_back(make_sentencepiece_normalizer(std::move(options)));
  parts.normalizer = std::make_unique<NormalizerSequence>(std::move(steps));
}

}  // namespace

std::unique_ptr<TokenizerParts> read_sentencepiece_parts(std::string_view bytes, std::string_view source) {
  const SentencePieceModel model = read_sentencepiece_proto(bytes, source);
  if (model.treat_whitespace_as_suffix)
    fail(ErrorCode::kInput, "{}: trainer_spec.treat_whitespace_as_suffix is not supported", source);
  auto parts = std::make_unique<TokenizerParts>();
  parts->source = source;
  PieceSets sets = read_pieces(model, *parts);
  parts->unk = read_id(model.unk_id, "unk_id", *parts);
  parts->bos = read_id(model.bos_id, "bos_id", *parts);
  parts->eos = read_id(model.eos_id, "eos_id", *parts);
  parts->pad = read_id(model.pad_id, "pad_id", *parts);
  parts->byte_fallback = model.byte_fallback;
  if (parts->bos) parts->prefix.push_back(*parts->bos);
  build_normalizer(model, *parts);
  build_matchers(*parts);
  if (model.type == SentencePieceModel::Type::kBpe) {
    parts->kind = ModelKind::kSentencePieceBpe;
    parts->model = std::make_unique<ScoreBpeModel>(parts->model_vocab, parts->scores,
                                                   ScoreBpeOptions{parts->unk.value_or(-1), model.byte_fallback},
                                                   sets.barred, sets.unused);
  } else if (model.type == SentencePieceModel::Type::kUnigram) {
    parts->kind = ModelKind::kUnigram;
    sets.barred.insert(sets.unused.begin(), sets.unused.end());
    parts->model = std::make_unique<UnigramModel>(
        parts->model_vocab, parts->scores, UnigramOptions{parts->unk.value_or(-1), model.byte_fallback}, sets.barred);
  } else {
    fail(ErrorCode::kInput, "{}: trainer_spec.model_type: expected 1 (unigram) or 2 (BPE), found {}", source,
         static_cast<int>(model.type));
  }
  parts->decoder.push_back(make_replace_string_decoder(std::string(kSpaceMark), " "));
  if (model.byte_fallback) parts->decoder.push_back(make_byte_fallback_decoder());
  parts->decoder.push_back(make_fuse_decoder());
  if (model.add_dummy_prefix) parts->decoder.push_back(make_strip_decoder(" ", 1, 0));
  return parts;
}

std::shared_ptr<const Tokenizer> parse_sentencepiece_model(std::string_view bytes, std::string_view source) {
  return finish_parts(read_sentencepiece_parts(bytes, source));
}

std::shared_ptr<const Tokenizer> load_sentencepiece_model(const std::string& path) {
  return parse_sentencepiece_model(read_file(path, kMaxModelBytes), path);
}

}  // namespace fettle::text
