#pragma once

#include <memory>
#include <vector>

#include "base/json.h"
#include "text/tokenizer_parts.h"

// Readers of the sections of tokenizer.json. All throw kInput naming file and JSON path.
namespace fettle::text {

std::unique_ptr<Normalizer> read_normalizer(const JsonReader& json, TokenizerParts& parts);  // null for JSON null

// If the pipeline ends in ByteLevel and `raw_bytes_model`, the byte mapping is left
// to the model and parts.byte_level is set.
std::unique_ptr<PreTokenizer> read_pre_tokenizer(const JsonReader& json, bool raw_bytes_model, TokenizerParts& parts);

void read_post_processor(const JsonReader& json, TokenizerParts& parts);  // fills prefix and suffix
void read_decoder(const JsonReader& json, TokenizerParts& parts);

void read_added_tokens(const JsonReader& json, TokenizerParts& parts);  // after the vocabulary
void read_vocabulary(const JsonReader& model, TokenizerParts& parts);   // fills model_vocab, vocab, kind, scores
void read_model(const JsonReader& model, TokenizerParts& parts);        // after added tokens and pre-tokenizer

// The whole file except for the configuration around it and finish_parts(). dir (may be null): folder whose
// tokenizer_config.json and added_tokens.json may name more added tokens.
std::unique_ptr<TokenizerParts> read_tokenizer_parts(std::string text, std::string_view source, const std::string* dir);

// The same for a SentencePiece model file.
std::unique_ptr<TokenizerParts> read_sentencepiece_parts(std::string_view bytes, std::string_view source);

}  // namespace fettle::text
