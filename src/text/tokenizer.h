#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/token_id.h"

namespace fettle::text {

struct TokenizerParts;

struct EncodeOptions {
  bool add_special = true;    // BOS, [CLS] ... as the model's post-processor says
  bool parse_special = true;  // control tokens written in the text become their ids; false for untrusted text
  std::span<const TextRange> untrusted = {};  // parts of the text where they do not: ascending, disjoint byte ranges
};

// Text to token ids and back: added tokens -> normalizer -> pre-tokenizer -> model -> post-processor, and a decoder.
// Built by one of the load functions below from tokenizer.json, a SentencePiece model or a GGUF vocabulary. Immutable;
// all functions may be called from several threads.
class Tokenizer {
 public:
  explicit Tokenizer(std::unique_ptr<const TokenizerParts> parts);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Every maximal ill-formed UTF-8 subpart of text is read as U+FFFD; whoever must refuse it checks before. Throws
  // kResource for more than 64 MiB of text, a normalizer that exceeds its growth limit and a pattern that exceeds the
  // matching limits; kInput when the model meets an unknown character and has no unknown token.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Text of the tokens, always well-formed UTF-8: bytes that do not form characters become U+FFFD. Ids without a piece
  // (holes, padding rows of the embedding, ids out of range) give nothing. skip_special drops special tokens.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;

  std::string token_text(TokenId id) const;  // the piece as stored ("Ġthe", "▁the", "<0x0A>"); "" for an unknown id
  std::string token_bytes(
      TokenId id) const;  // bytes it contributes in the middle of a text; may be part of a character
  std::optional<TokenId> token_id(std::string_view piece) const;  // the reverse of token_text
  size_t vocab_size() const;                                      // largest id + 1, holes included
  bool is_special(TokenId id) const;                              // control token, unknown token

  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  std::optional<TokenId> unk() const;
  std::optional<TokenId> pad() const;
  bool adds_bos() const;                                // encode() with add_special starts with bos()
  bool adds_eos() const;                                // ... and ends with eos()
  std::vector<TokenId> eog_ids() const;                 // tokens that end a generation, ascending
  const std::vector<AddedToken>& added_tokens() const;  // ascending ids

  const std::string& source() const;          // file it came from
  const std::string& tokenizer_json() const;  // text of tokenizer.json; empty if it came from another format

  const TokenizerParts& parts() const { return *parts_; }

 private:
  std::unique_ptr<const TokenizerParts> parts_;
};

// Decodes token by token: the pieces of text returned by push() and flush() together equal decode() of all tokens, and
// each is well-formed UTF-8. What cannot be decided yet (part of a character, an open run of byte tokens) is held back.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);
  ~StreamDecoder();
  std::string push(TokenId id);
  std::string flush();  // at the end; afterwards only destruction is allowed

 private:
  struct State;
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::unique_ptr<State> state_;
};

// Folder in Hugging Face layout, or the path of a tokenizer.json (files beside it count as the folder): tokenizer.json
// with tokenizer_config.json, special_tokens_map.json, added_tokens.json, generation_config.json and config.json for
// the special ids; tokenizer.model when there is no tokenizer.json. Throws kInput for malformed, inconsistent or
// unsupported content, kIo when there is nothing to read.
std::shared_ptr<const Tokenizer> load_tokenizer_json(const std::string& dir_or_file);

// The same from text alone; `source` is named in errors.
std::shared_ptr<const Tokenizer> parse_tokenizer_json(std::string text, std::string_view source);

// SentencePiece model file: BPE and Unigram, byte fallback, user-defined and control pieces, precompiled charsmap.
std::shared_ptr<const Tokenizer> load_sentencepiece_model(const std::string& path);
std::shared_ptr<const Tokenizer> parse_sentencepiece_model(std::string_view bytes, std::string_view source);

}  // namespace fettle::text
