#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/charsmap.h"
#include "text/unicode.h"

namespace fettle::text {

// One step of the normalizer of tokenizer.json: well-formed UTF-8 in and out. Immutable, thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string apply(std::string text) const = 0;
};

// Applies a normalizer and enforces output <= 8 x input + 1 MiB (kResource), step by step.
class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  std::string apply(std::string text) const override;

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};

std::unique_ptr<Normalizer> make_unicode_form(unicode::Form form);
std::unique_ptr<Normalizer> make_lowercase();
std::unique_ptr<Normalizer> make_strip_accents();
std::unique_ptr<Normalizer> make_strip(bool left, bool right);
std::unique_ptr<Normalizer> make_prepend(std::string prefix);  // nothing is put before an empty text
std::unique_ptr<Normalizer> make_replace_string(std::string pattern, std::string content);
std::unique_ptr<Normalizer> make_replace_regex(std::string_view pattern, std::string content, std::string_view source);
std::unique_ptr<Normalizer> make_bert_normalizer(const BertNormalizerOptions& options);
std::unique_ptr<Normalizer> make_nmt();
std::unique_ptr<Normalizer> make_byte_level_normalizer();
// Hugging Face reading of a SentencePiece table: whole grapheme clusters below 6 bytes first, then single characters.
std::unique_ptr<Normalizer> make_precompiled(std::shared_ptr<const Charsmap> charsmap);

// SentencePiece's own normalizer: longest match of the table at every position, optional removal of extra white space,
// dummy prefix, and U+2581 for spaces.
struct SentencePieceNormalizerOptions {
  std::shared_ptr<const Charsmap> charsmap;  // may be null
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  std::vector<std::string> keep;  // user-defined pieces, which the table does not touch
};
std::unique_ptr<Normalizer> make_sentencepiece_normalizer(SentencePieceNormalizerOptions options);

}  // namespace fettle::text
