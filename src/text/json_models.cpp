#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/json_parts.h"
#include "text/models/bpe.h"
#include "text/models/unigram.h"
#include "text/models/word_models.h"

namespace fettle::text {
namespace {

// Files written before the field existed have no model.type.
std::string model_type(const JsonReader& model) {
  if (model.has("type")) return model.get("type").string();
  if (model.has("merges")) return "BPE";
  if (model.has("vocab") && model.get("vocab").value().is_array()) return "Unigram";
  return model.has("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

ModelKind parse_kind(const JsonReader& model) {
  const std::string type = model_type(model);
  if (type == "BPE") return ModelKind::kBpe;
  if (type == "Unigram") return ModelKind::kUnigram;
  if (type == "WordPiece") return ModelKind::kWordPiece;
  if (type == "WordLevel") return ModelKind::kWordLevel;
  model.get("type").fail_expected("BPE, Unigram, WordPiece or WordLevel");
}

TokenId json_id(const JsonReader& json) { return static_cast<TokenId>(json.integer(0, kMaxVocabulary - 1)); }

void read_vocabulary_object(const JsonReader& vocab, TokenizerParts& parts) {
  for (const auto& [piece, id] : vocab.object()) {
    if (id.type() != Json::Type::kInt || id.as_int() < 0 || id.as_int() >= static_cast<int64_t>(kMaxVocabulary))
      fail(ErrorCode::kInput, "{}: {}: id of \"{}\": expected an integer in [0, {}), found {}", vocab.source(),
           vocab.path(), printable(piece, 60), kMaxVocabulary, printable(id.dump(), 60));
    parts.model_vocab->add(static_cast<TokenId>(id.as_int()), piece, vocab.source());
  }
}

// [[piece, score], ...]
void read_unigram_vocabulary(const JsonReader& vocab, TokenizerParts& parts) {
  const Json::Array& items = vocab.array();
  if (items.size() > kMaxVocabulary) vocab.fail_expected(fmt::format("at most {} pieces", kMaxVocabulary));
  parts.scores.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const JsonReader item = vocab.at(i);
    if (item.array().size() != 2) item.fail_expected("[piece, score]");
    parts.model_vocab->add_shadowed(static_cast<TokenId>(i), item.at(size_t{0}).string(), vocab.source());
    parts.scores.push_back(static_cast<float>(item.at(1).number(-1e30, 1e30)));
  }
}

// "a b" or ["a", "b"]; pieces that contain spaces need the second form.
std::pair<std::string_view, std::string_view> merge_pair(const JsonReader& merges, size_t index) {
  const Json& value = merges.value()[index];
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string())
    return {value[0].as_string(), value[1].as_string()};
  if (!value.is_string()) merges.at(index).fail_expected("\"left right\" or [left, right]");
  const std::string_view text = value.as_string();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
    merges.at(index).fail_expected("two pieces with one space between them");
  return {text.substr(0, space), text.substr(space + 1)};
}

MergeTable read_merges(const JsonReader& merges, const BpeOptions& options, const Vocab& vocab) {
  const size_t n = merges.array().size();
  if (n > kMaxMerges) merges.fail_expected(fmt::format("at most {} merges", kMaxMerges));
  MergeTable table(n);
  std::string joined;
  for (size_t i = 0; i < n; ++i) {
    const auto [left, right] = merge_pair(merges, i);
    joined = left;
    const std::string& prefix = options.continuing_subword_prefix;
    joined += right.starts_with(prefix) ? right.substr(prefix.size()) : right;
    const TokenId a = vocab.find(left), b = vocab.find(right), result = vocab.find(joined);
    if (a < 0 || b < 0 || result < 0)
      merges.at(i).fail_here(fmt::format("merge of \"{}\" and \"{}\" needs \"{}\", which is not in the vocabulary",
                                         printable(left, 60), printable(right, 60),
                                         printable(a < 0   ? left
                                                   : b < 0 ? right
                                                           : std::string_view(joined),
                                                   60)));
    table.put(a, b, {static_cast<uint32_t>(i), result});
  }
  return table;
}

// A byte token with small digits or a wrong value would never be found: better said at loading time.
void check_byte_tokens(const Vocab& vocab, std::string_view source) {
  for (TokenId id = 0; static_cast<size_t>(id) < vocab.size(); ++id) {
    const std::string_view piece = vocab.piece(id);
    if (piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>' && !parse_byte_token(piece))
      fail(ErrorCode::kInput, "{}: token {}: expected <0x00> .. <0xFF> with capital digits, found \"{}\"", source, id,
           printable(piece));
  }
}

void read_bpe(const JsonReader& model, const std::unordered_set<TokenId>& barred, TokenizerParts& parts) {
  BpeOptions options;
  options.unk_token = model.string_or("unk_token", "");
  options.continuing_subword_prefix = model.string_or("continuing_subword_prefix", "");
  options.end_of_word_suffix = model.string_or("end_of_word_suffix", "");
  options.fuse_unk = model.boolean_or("fuse_unk", false);
  options.byte_fallback = parts.byte_fallback = model.boolean_or("byte_fallback", false);
  options.ignore_merges = model.boolean_or("ignore_merges", false);
  options.raw_bytes = parts.byte_level;
  if (options.byte_fallback) check_byte_tokens(*parts.model_vocab, parts.source);
  MergeTable merges = read_merges(model.at("merges"), options, *parts.model_vocab);
  auto bpe = std::make_unique<BpeModel>(parts.model_vocab, std::move(merges), options, barred, parts.source);
  if (!options.unk_token.empty()) parts.unk = parts.model_vocab->find(options.unk_token);
  parts.model = std::move(bpe);
}

void read_unigram(const JsonReader& model, const std::unordered_set<TokenId>& barred, TokenizerParts& parts) {
  UnigramOptions options;
  if (model.has("unk_id")) {
    options.unk = json_id(model.get("unk_id"));
    if (!parts.model_vocab->has(options.unk))
      model.get("unk_id").fail_expected(fmt::format("an id below {}", parts.model_vocab->size()));
    parts.unk = options.unk;
  }
  options.byte_fallback = parts.byte_fallback = model.boolean_or("byte_fallback", false);
  if (options.byte_fallback) check_byte_tokens(*parts.model_vocab, parts.source);
  std::vector<float> scores = parts.scores;
  scores.resize(std::max(scores.size(), parts.model_vocab->size()));
  parts.model = std::make_unique<UnigramModel>(parts.model_vocab, std::move(scores), options, barred);
}

TokenId unk_id(const JsonReader& model, std::string_view fallback, TokenizerParts& parts) {
  const TokenId id = parts.model_vocab->find(model.string_or("unk_token", fallback));
  if (id >= 0) parts.unk = id;
  return id;
}

}  // namespace

void read_vocabulary(const JsonReader& model, TokenizerParts& parts) {
  parts.kind = parse_kind(model);
  if (parts.kind == ModelKind::kUnigram)
    read_unigram_vocabulary(model.at("vocab"), parts);
  else
    read_vocabulary_object(model.at("vocab"), parts);
}

void read_model(const JsonReader& model, TokenizerParts& parts) {
  std::unordered_set<TokenId> barred;
  for (const AddedToken& token : parts.added)
    if (token.special) barred.insert(token.id);
  switch (parts.kind) {
    case ModelKind::kBpe:
      return read_bpe(model, barred, parts);
    case ModelKind::kUnigram:
      return read_unigram(model, barred, parts);
    case ModelKind::kWordPiece: {
      WordPieceOptions options;
      options.continuing_prefix = model.string_or("continuing_subword_prefix", "##");
      options.max_characters = static_cast<size_t>(model.integer_or("max_input_chars_per_word", 100, 1, 1 << 20));
      options.unk = unk_id(model, "[UNK]", parts);
      parts.model = std::make_unique<WordPieceModel>(parts.model_vocab, options, barred);
      return;
    }
    case ModelKind::kWordLevel:
      parts.model = std::make_unique<WordLevelModel>(parts.model_vocab, unk_id(model, "<unk>", parts), barred);
      return;
    case ModelKind::kSentencePieceBpe:
      break;  // not a tokenizer.json model
  }
  fail(ErrorCode::kInternal, "model kind without reader");
}

}  // namespace fettle::text
