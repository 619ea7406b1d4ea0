// tokenizer.model (SentencePiece protobuf) from bytes.
#include <cstdint>

#include "tokenizer_checks.h"

using namespace fettle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::shared_ptr<const text::Tokenizer> t;
  try {
    t = text::parse_sentencepiece_model({reinterpret_cast<const char*>(data), size}, "fuzz.model");
  } catch (const Error&) {
    return 0;
  }
  for (std::string_view text : {"", " Hello  hello\xF0\x9F\x99\x82\xE6\xBC\xA2 don't 12345\r\n\n <s></s> the\xFF x"})
    fuzz::check_tokenizer(*t, text);
  for (text::TokenId id = 0; static_cast<size_t>(id) < std::min<size_t>(t->vocab_size(), 64); ++id)
    fuzz::check_tokenizer(*t, t->token_bytes(id) + t->token_text(id));
  return 0;
}
