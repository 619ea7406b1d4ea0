#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/models/model.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/token_id.h"
#include "text/vocab.h"

namespace fettle::text {

struct GgufVocab;
class Tokenizer;

enum class ModelKind { kBpe, kSentencePieceBpe, kUnigram, kWordPiece, kWordLevel };

// What a Tokenizer is made of. The loaders fill it; finish_parts() checks it and derives the rest.
struct TokenizerParts {
  std::string source;
  std::string tokenizer_json;
  std::shared_ptr<const GgufVocab> gguf;  // when it came from a GGUF vocabulary

  ModelKind kind = ModelKind::kBpe;
  std::shared_ptr<Vocab> model_vocab = std::make_shared<Vocab>();  // pieces the model may produce
  Vocab vocab;                                                     // those and the added tokens
  std::vector<float> scores;  // by id: Unigram and SentencePiece BPE; empty otherwise
  bool byte_level = false;    // BPE on bytes
  bool byte_fallback = false;
  // Normalizer and pre-tokenizer steps of tokenizer.json in words ("norm:NFC", "pre:Split:Regex:Isolated:..."), so that
  // an exporter can tell which known pipeline this is.
  std::vector<std::string> pipeline;

  std::vector<AddedToken> added;
  std::unique_ptr<const Normalizer> normalizer;       // null: none
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // null: none
  std::unique_ptr<const Model> model;
  std::vector<TokenId> prefix, suffix;  // what add_special puts around the text
  Decoder decoder;
  std::shared_ptr<const Charsmap> charsmap;  // if the normalizer uses one

  std::optional<TokenId> bos, eos, unk, pad;
  std::vector<TokenId> extra_eog;  // end-of-generation ids named by configuration files

  AddedTokenMatcher raw_matcher, normalized_matcher;  // built by finish_parts() unless matchers_filled
  bool matchers_filled = false;

  // Derived by finish_parts().
  std::unordered_set<TokenId> special;
  std::vector<TokenId> eog;
};

// Whether a token of this name ends a generation in published models.
bool is_eog_name(std::string_view piece);

// Validates ids and added tokens against the vocabulary, builds the matchers and the end-of-generation set.
std::shared_ptr<const Tokenizer> finish_parts(std::unique_ptr<TokenizerParts> parts);

}  // namespace fettle::text
