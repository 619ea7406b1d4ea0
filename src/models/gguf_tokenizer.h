#pragma once

#include "io/gguf.h"
#include "text/gguf_vocab.h"

// The bridge between GGUF metadata (room io) and tokenizers (room text), which do not know each other.
namespace fettle::models {

// Reads the `tokenizer.*` keys. Throws kInput naming file and key for missing tokens and wrong types; what the values
// mean is checked by text::make_gguf_tokenizer().
text::GgufVocab gguf_vocab(const io::GgufFile& file);

// Writes them. Absent values are left out.
void write_gguf_vocab(const text::GgufVocab& vocab, io::GgufMetadata& metadata);

}  // namespace fettle::models
