// Any text through sound tokenizers: a byte-level BPE with each known pre-tokenizer pattern and a SentencePiece model.
// Byte-level ones must give the text back; scanners must equal the regular expressions.
#include <array>
#include <cstdint>

#include "base/file.h"
#include "text/byte_alphabet.h"
#include "text/gguf_vocab.h"
#include "text/regex.h"
#include "text/scanners.h"
#include "tokenizer_checks.h"

using namespace fettle;

namespace {

std::shared_ptr<const text::Tokenizer> byte_level(const char* pre) {
  text::GgufVocab v;
  v.source = "fuzz";
  v.model = "gpt2";
  v.pre = pre;
  for (unsigned b = 0; b < 256; ++b)
    v.tokens.push_back(text::byte_alphabet::encode(std::string(1, static_cast<char>(b))));
  for (const char* merge : {"h e", "l l", "he ll", "hell o", "Ġ t", "Ġt he", "Ġ Ġ", "ĠĠ ĠĠ", "1 2", "' s", "Ã ©"}) {
    v.merges.emplace_back(merge);
    const std::string pair = merge;
    v.tokens.push_back(pair.substr(0, pair.find(' ')) + pair.substr(pair.find(' ') + 1));
  }
  v.tokens.emplace_back("<|end|>");
  v.token_types.assign(v.tokens.size(), 1);
  v.token_types.back() = 3;
  return text::make_gguf_tokenizer(v);
}

std::shared_ptr<const text::Tokenizer> sentencepiece() {
  text::GgufVocab v;
  v.source = "fuzz";
  v.model = "llama";
  v.tokens = {"<unk>", "<s>", "</s>"};
  v.token_types = {2, 3, 3};
  for (unsigned b = 0; b < 256; ++b) {
    v.tokens.push_back(fmt::format("<0x{:02X}>", b));
    v.token_types.push_back(6);
  }
  for (const char* piece :
       {"▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello", "▁▁", "aa", "a", "é", "漢", "▁x▁"}) {
    v.tokens.emplace_back(piece);
    v.token_types.push_back(1);
  }
  for (size_t i = 0; i < v.tokens.size(); ++i) v.scores.push_back(-static_cast<float>(i % 37));
  v.add_space_prefix = false;
  return text::make_gguf_tokenizer(v);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::array byte_tokenizers = {byte_level("gpt-2"),  byte_level("llama-bpe"),   byte_level("gpt-4o"),
                                             byte_level("tekken"), byte_level("deepseek-v3"), byte_level("smollm")};
  static const auto spm = sentencepiece();
  const std::string_view raw(reinterpret_cast<const char*>(data), size);
  const std::string text = utf8::sanitize(raw);
  for (const auto& t : byte_tokenizers) {
    fuzz::check_tokenizer(*t, raw);
    const auto ids = t->encode(text, {.add_special = false, .parse_special = false});
    for (text::TokenId id : ids) FETTLE_CHECK(!t->is_special(id));
    FETTLE_CHECK(t->decode(ids, false) == text);
  }
  fuzz::check_tokenizer(*spm, raw);
  for (text::TokenId id : spm->encode(raw, {.add_special = false, .parse_special = false}))
    FETTLE_CHECK(!spm->is_special(id));

  // New characters of the Unicode version that only one side knows are left out.
  static const text::Regex unassigned(R"(\p{Cn})", "fuzz");
  if (!unassigned.find_all(text).empty()) return 0;
  static const auto patterns = [] {
    std::vector<std::pair<text::KnownPattern, std::unique_ptr<text::Regex>>> all;
    for (int i = 0; i <= static_cast<int>(text::KnownPattern::kTekken); ++i) {
      const auto p = static_cast<text::KnownPattern>(i);
      all.emplace_back(p, std::make_unique<text::Regex>(text::pattern_text(p), "fuzz"));
    }
    return all;
  }();
  for (const auto& [pattern, regex] : patterns) {
    size_t at = 0;
    for (const text::Range& r : regex->find_all(text)) {
      FETTLE_CHECK(r.begin == at);
      at = text::next_piece_end(pattern, text, at);
      FETTLE_CHECK(r.end == at);
    }
    FETTLE_CHECK(at == text.size());
  }
  return 0;
}
