#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::text {
class Tokenizer;
}

namespace fettle::eval {

// A text as a model sees it. words and bytes serve word_perplexity and bits per byte.
struct EvalText {
  std::string name = {};
  std::vector<int32_t> tokens = {};
  size_t bytes = 0, words = 0;
  bool adds_bos = false;  // the tokenizer puts BOS first; tokens[0] is it
  int32_t bos = -1;       // BOS, or end of text where there is none; -1 unknown
};

// Reads a UTF-8 text file of at most 1 GiB. Throws kInput naming the byte offset of the first ill-formed sequence.
std::string load_text(const std::string& path);

// Throws kInput with the byte offset unless `text` is well-formed UTF-8; `source` is the flag or file named.
void require_utf8(std::string_view text, std::string_view source);

size_t count_words(std::string_view text);  // runs of non-white-space bytes

EvalText tokenize_text(const text::Tokenizer& tokenizer, std::string name, std::string_view text);

}  // namespace fettle::eval
