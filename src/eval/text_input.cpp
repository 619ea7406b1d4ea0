#include "eval/text_input.h"

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/tokenizer.h"

namespace fettle::eval {

void require_utf8(std::string_view text, std::string_view source) {
  const size_t at = utf8::first_invalid(text);
  if (at == std::string_view::npos) return;
  fail(ErrorCode::kInput, "{}: expected UTF-8 text, found byte 0x{:02X} at offset {}", source,
       static_cast<unsigned char>(text[at]), at);
}

std::string load_text(const std::string& path) {
  constexpr size_t kMaxText = size_t{1} << 30;
  std::string text = read_file(path, kMaxText);
  require_utf8(text, path);
  return text;
}

size_t count_words(std::string_view text) {
  size_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    if (!space && !inside) ++words;
    inside = !space;
  }
  return words;
}

EvalText tokenize_text(const text::Tokenizer& tokenizer, std::string name, std::string_view text) {
  EvalText out{.name = std::move(name), .bytes = text.size(), .words = count_words(text)};
  // Text such as WikiText's "<unk>" is text, as llama.cpp's perplexity reads it.
  out.tokens = tokenizer.encode(text, {.parse_special = false});
  out.adds_bos = tokenizer.adds_bos();
  out.bos = tokenizer.bos().value_or(tokenizer.eos().value_or(-1));
  return out;
}

}  // namespace fettle::eval
