#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.h"

namespace fettle::text {

// What a value of tokenizer.ggml.pre stands for (llama.cpp src/llama-vocab.cpp and the converted models'
// tokenizer.json).
struct GgufPre {
  std::string_view name;
  std::span<const std::string_view> splits;  // patterns of Isolated splits, one after the other
  bool nfc;                                  // the original tokenizer normalises to NFC
  bool ignore_merges;
  bool add_bos;  // default of add_bos_token
};

std::span<const GgufPre> gguf_pre_table();
const GgufPre* find_gguf_pre(std::string_view name);  // nullptr when unknown

std::unique_ptr<PreTokenizer> make_gguf_pre_tokenizer(const GgufPre& pre);  // pieces stay raw bytes

}  // namespace fettle::text
