#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_parts.h"

namespace fettle::text {
namespace {

constexpr size_t kMaxText = size_t{64} << 20;

// Names that mark the end of a turn or of the text in published models.
constexpr std::array<std::string_view, 14> kEogNames = {"<|eot_id|>",
                                                        "<|im_end|>",
                                                        "<|end|>",
                                                        "<|return|>",
                                                        "<|call|>",
                                                        "<end_of_turn>",
                                                        "<turn|>",
                                                        "<|endoftext|>",
                                                        "<|eom_id|>",
                                                        "<EOT>",
                                                        "[EOT]",
                                                        "<|end_of_text|>",
                                                        "<end_of_utterance>",
                                                        "<｜end▁of▁sentence｜>"};

std::vector<TokenId> find_eog(const TokenizerParts& p) {
  std::vector<TokenId> ids = p.extra_eog;
  if (p.eos) ids.push_back(*p.eos);
  // Harmony (gpt-oss): a message ends with <|end|>, but the turn goes on until <|return|> or <|call|>.
  const bool harmony = p.vocab.find("<|return|>") >= 0 && p.vocab.find("<|call|>") >= 0;
  for (std::string_view name : kEogNames)
    if (const TokenId id = p.vocab.find(name); id >= 0) ids.push_back(id);
  if (harmony) {
    const TokenId end = p.vocab.find("<|end|>");
    std::erase(ids, end);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void check_id(const TokenizerParts& p, std::optional<TokenId> id, const char* name) {
  if (id && (*id < 0 || static_cast<size_t>(*id) >= kMaxVocabulary))
    fail(ErrorCode::kInput, "{}: {}: id {} is outside [0, {})", p.source, name, *id, kMaxVocabulary);
}

}  // namespace

bool is_eog_name(std::string_view piece) {
  return std::find(kEogNames.begin(), kEogNames.end(), piece) != kEogNames.end();
}

std::shared_ptr<const Tokenizer> finish_parts(std::unique_ptr<TokenizerParts> parts) {
  TokenizerParts& p = *parts;
  FETTLE_CHECK(p.model != nullptr);
  std::sort(p.added.begin(), p.added.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (const AddedToken& token : p.added) {
    if (token.content.size() > kMaxAddedTokenBytes)
      fail(ErrorCode::kInput, "{}: added token {} has {} bytes, the limit is {}", p.source, token.id,
           token.content.size(), kMaxAddedTokenBytes);
    if (token.special) p.special.insert(token.id);
    if (p.matchers_filled) continue;
    if (token.normalized && p.normalizer)
      p.normalized_matcher.add(token, p.normalizer->apply(token.content));
    else if (token.normalized)
      p.normalized_matcher.add(token, token.content);
    else
      p.raw_matcher.add(token, token.content);
  }
  p.vocab.check_density(p.source);
  check_id(p, p.bos, "bos");
  check_id(p, p.eos, "eos");
  check_id(p, p.unk, "unk");
  check_id(p, p.pad, "pad");
  p.eog = find_eog(p);
  return std::make_shared<const Tokenizer>(std::move(parts));
}

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

namespace {

void encode_text(const TokenizerParts& p, std::string text, bool at_start, PieceList& list, std::vector<TokenId>& out) {
  if (text.empty()) return;
  if (text.size() > std::numeric_limits<uint32_t>::max() / 4)
    fail(ErrorCode::kResource, "normalised text of {} bytes is too long", text.size());
  const auto size = static_cast<uint32_t>(text.size());
  list.text = std::move(text);
  list.pieces.assign(1, {0, size, at_start});
  if (p.pre_tokenizer) p.pre_tokenizer->apply(list);
  for (const PieceList::Piece& piece : list.pieces) p.model->tokenize(list.view(piece), out);
}

}  // namespace

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const TokenizerParts& p = *parts_;
  if (text.size() > kMaxText)
    fail(ErrorCode::kResource, "text of {} bytes exceeds the limit of {} for one call", text.size(), kMaxText);
  const SpecialScope scope{options.parse_special, options.untrusted};
  std::string repaired;
  if (!utf8::is_valid(text)) {
    FETTLE_CHECK(options.untrusted.empty());  // repairing moves the bytes that ranges point to
    text = repaired = utf8::sanitize(text);
  }

  std::vector<TokenId> out;
  if (options.add_special) out = p.prefix;
  PieceList list;
  for (const auto& raw : p.raw_matcher.split(text, scope)) {
    if (raw.id >= 0) {
      out.push_back(raw.id);
      continue;
    }
    std::string part(text.substr(raw.begin, raw.end - raw.begin));
    if (p.normalizer) part = p.normalizer->apply(std::move(part));
    if (p.normalized_matcher.empty()) {
      encode_text(p, std::move(part), raw.begin == 0, list, out);
      continue;
    }
    // Normalising moves bytes, so a fragment with any untrusted byte is searched for ordinary added tokens only.
    const SpecialScope part_scope{scope.allows(raw.begin, raw.end)};
    for (const auto& piece : p.normalized_matcher.split(part, part_scope)) {
      if (piece.id >= 0)
        out.push_back(piece.id);
      else
        encode_text(p, part.substr(piece.begin, piece.end - piece.begin), raw.begin == 0 && piece.begin == 0, list,
                    out);
    }
  }
  if (options.add_special) out.insert(out.end(), p.suffix.begin(), p.suffix.end());
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  DecoderRun run(parts_->decoder);
  for (TokenId id : ids)
    if (parts_->vocab.has(id) && !(skip_special && is_special(id))) run.token(parts_->vocab.piece(id));
  run.finish();
  return run.take();
}

std::string Tokenizer::token_text(TokenId id) const { return std::string(parts_->vocab.piece(id)); }

std::string Tokenizer::token_bytes(TokenId id) const {
  std::string bytes = token_text(id);
  for (const auto& stage : parts_->decoder) bytes = stage->token_bytes(std::move(bytes));
  return bytes;
}

std::optional<TokenId> Tokenizer::token_id(std::string_view piece) const {
  const TokenId id = parts_->vocab.find(piece);
  return id < 0 ? std::nullopt : std::optional(id);
}

size_t Tokenizer::vocab_size() const { return parts_->vocab.size(); }
bool Tokenizer::is_special(TokenId id) const { return parts_->special.contains(id); }
std::optional<TokenId> Tokenizer::bos() const { return parts_->bos; }
std::optional<TokenId> Tokenizer::eos() const { return parts_->eos; }
std::optional<TokenId> Tokenizer::unk() const { return parts_->unk; }
std::optional<TokenId> Tokenizer::pad() const { return parts_->pad; }
bool Tokenizer::adds_bos() const { return bos() && !parts_->prefix.empty() && parts_->prefix.front() == *bos(); }
bool Tokenizer::adds_eos() const { return eos() && !parts_->suffix.empty() && parts_->suffix.back() == *eos(); }
std::vector<TokenId> Tokenizer::eog_ids() const { return parts_->eog; }
const std::vector<AddedToken>& Tokenizer::added_tokens() const { return parts_->added; }
const std::string& Tokenizer::source() const { return parts_->source; }
const std::string& Tokenizer::tokenizer_json() const { return parts_->tokenizer_json; }

struct StreamDecoder::State {
  explicit State(const Decoder& decoder) : run(decoder) {}
  DecoderRun run;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special), state_(std::make_unique<State>(tokenizer.parts().decoder)) {}

StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(TokenId id) {
  const TokenizerParts& p = tokenizer_.parts();
  if (p.vocab.has(id) && !(skip_special_ && tokenizer_.is_special(id))) state_->run.token(p.vocab.piece(id));
  return state_->run.take();
}

std::string StreamDecoder::flush() {
  state_->run.finish();
  return state_->run.take();
}

}  // namespace fettle::text
