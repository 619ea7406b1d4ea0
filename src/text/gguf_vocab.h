#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/token_id.h"

namespace fettle::text {

// tokenizer.ggml.token_type
enum class GgufTokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// The `tokenizer.*` metadata of a GGUF file as plain data: whoever reads the file fills it, make_gguf_tokenizer()
// validates it. Absent keys are empty vectors, empty strings or nullopt.
struct GgufVocab {
  std::string source;                // file name for messages
  std::string model;                 // tokenizer.ggml.model: gpt2 | llama | bert | t5
  std::string pre;                   // .pre: which regular expressions split the text (gpt2 only)
  std::vector<std::string> tokens;   // .tokens [vocab]
  std::vector<float> scores;         // .scores [vocab] or empty
  std::vector<int32_t> token_types;  // .token_type [vocab] or empty (all normal)
  std::vector<std::string> merges;   // .merges: "left right", lowest rank first (gpt2 only)
  std::optional<TokenId> bos, eos, eot, eom, unk, sep, pad,
      mask;                                       // .{bos,eos,eot,eom,unknown,seperator,padding,mask}_token_id
  std::optional<bool> add_bos, add_eos, add_sep;  // .add_{bos,eos,sep}_token
  std::optional<bool> add_space_prefix, remove_extra_whitespaces;
  std::string precompiled_charsmap;  // bytes
  std::string chat_template;         // tokenizer.chat_template; not read here
  std::string huggingface_json;      // tokenizer.huggingface.json; preferred over everything else when present
};

class Tokenizer;

// Tokenizer of a GGUF vocabulary. Throws kInput for vectors of unequal length, ids outside the vocabulary, merges of
// unknown tokens, malformed byte tokens, an unknown `model` and an unknown `pre`, since a wrong guess would silently
// give other ids. With huggingface_json, that file is used and only the special ids come from the other keys.
std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const GgufVocab& vocab);

// The reverse, for writing GGUF files: `pre` is chosen by the text of the patterns, SentencePiece-style BPE becomes
// model "llama" (scores = -rank when the source has none), ids without a piece become unused "[PADn]" tokens. The
// result is loaded again and compared on some thousand texts made of the vocabulary's own pieces; throws kInput when
// the tokenizer has no GGUF equivalent or the ids differ.
GgufVocab to_gguf_vocab(const Tokenizer& tokenizer);

}  // namespace fettle::text
