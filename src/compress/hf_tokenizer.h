#pragma once

#include "base/file.h"
#include "io/gguf.h"

namespace fettle::compress {

// Writes tokenizer.json and tokenizer_config.json (special tokens, chat template) made from the vocabulary of a GGUF
// file, models gpt2 and llama; other models keep no tokenizer and are named in a warning. The result is loaded again
// and compared with the file's own tokenizer on a thousand texts; throws kInput when any ids differ.
void write_hf_tokenizer(const io::GgufFile& file, const OutputDir& dir);

}  // namespace fettle::compress
