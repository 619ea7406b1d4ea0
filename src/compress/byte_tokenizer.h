#pragma once

#include <string>

namespace fettle::compress {

struct ByteTokenizer {
  std::string tokenizer_json, tokenizer_config_json;
};

// The smallest tokenizer that can encode any text: byte-level BPE without merges. Ids 0-3 are <|endoftext|>,
// <|im_start|>, <|im_end|>, <|pad|>; byte b is id 4 + b. No BOS; ChatML as chat template.
ByteTokenizer byte_tokenizer();

}  // namespace fettle::compress
