// tokenizer.json from bytes; what is accepted must encode and decode by the rules, and its GGUF export must agree.
#include <cstdint>
#include <span>

#include "text/gguf_vocab.h"
#include "tokenizer_checks.h"

using namespace fettle;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::shared_ptr<const text::Tokenizer> t;
  try {
    t = text::parse_tokenizer_json(std::string(reinterpret_cast<const char*>(data), size), "fuzz.json");
  } catch (const Error&) {
    return 0;
  }
  for (std::string_view text : {"", " Hello  hello\xF0\x9F\x99\x82\xE6\xBC\xA2 don't 12345\r\n\n <s></s> the\xFF x"})
    fuzz::check_tokenizer(*t, text);
  for (text::TokenId id = 0; static_cast<size_t>(id) < std::min<size_t>(t->vocab_size(), 64); ++id)
    fuzz::check_tokenizer(*t, t->token_bytes(id) + t->token_text(id));
  try {
    text::make_gguf_tokenizer(text::to_gguf_vocab(*t));
  } catch (const Error&) {
  }
  return 0;
}
