#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

// Character classes and string normalisation, from ICU. Texts are well-formed UTF-8.
namespace fettle::text::unicode {

// Bits of classes(): Unicode general categories and what tokenizer patterns build from them.
inline constexpr uint16_t kLetter = 1;            // \p{L}
inline constexpr uint16_t kMark = 2;              // \p{M}
inline constexpr uint16_t kNumber = 4;            // \p{N}
inline constexpr uint16_t kPunctuation = 8;       // \p{P}
inline constexpr uint16_t kSymbol = 16;           // \p{S}
inline constexpr uint16_t kSpace = 32;            // White_Space: \s of Oniguruma and Rust, so without U+180E
inline constexpr uint16_t kUpperLike = 64;        // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
inline constexpr uint16_t kLowerLike = 128;       // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
inline constexpr uint16_t kOther = 256;           // \p{C}
inline constexpr uint16_t kNonspacingMark = 512;  // \p{Mn}
inline constexpr uint16_t kDecimalDigit = 1024;   // \p{Nd}
inline constexpr uint16_t kConnector = 2048;      // \p{Pc}

constexpr uint16_t ascii_classes(unsigned char c) {
  if (c >= 'A' && c <= 'Z') return kLetter | kUpperLike;
  if (c >= 'a' && c <= 'z') return kLetter | kLowerLike;
  if (c >= '0' && c <= '9') return kNumber | kDecimalDigit;
  if (c == ' ') return kSpace;
  if (c >= 0x09 && c <= 0x0D) return kSpace | kOther;
  if (c < 0x20 || c == 0x7F) return kOther;
  if (c == '$' || c == '+' || c == '<' || c == '=' || c == '>' || c == '^' || c == '`' || c == '|' || c == '~')
    return kSymbol;
  return c == '_' ? kPunctuation | kConnector : kPunctuation;
}

inline constexpr auto kAsciiClasses = [] {
  std::array<uint16_t, 128> table{};
  for (unsigned c = 0; c < 128; ++c) table[c] = ascii_classes(static_cast<unsigned char>(c));
  return table;
}();

uint16_t classes_beyond_ascii(char32_t c);
inline uint16_t classes(char32_t c) { return c < 128 ? kAsciiClasses[c] : classes_beyond_ascii(c); }

inline bool is_space(char32_t c) { return classes(c) & kSpace; }
// \w of Rust's regex crate: Alphabetic, marks, decimal digits, connector punctuation and the two join controls.
bool is_word(char32_t c);
// ASCII punctuation or \p{P}: what BERT calls punctuation.
inline bool is_bert_punctuation(char32_t c) {
  return c < 128 ? (kAsciiClasses[c] & (kPunctuation | kSymbol)) != 0 : (classes_beyond_ascii(c) & kPunctuation) != 0;
}
int script(char32_t c);  // ICU UScriptCode; -1 for private-use and unassigned characters
bool is_script_name(std::string_view name);

// Full lower case of each character on its own (no final-sigma rule), as Rust's char::to_lowercase.
std::string lowercase(std::string_view text);

enum class Form { kNfc, kNfd, kNfkc, kNfkd };
std::string normalize(std::string_view text, Form form);

// Walks the extended grapheme clusters of one text.
class Graphemes {
 public:
  explicit Graphemes(std::string_view text);
  ~Graphemes();
  Graphemes(const Graphemes&) = delete;
  Graphemes& operator=(const Graphemes&) = delete;
  bool next(std::string_view* cluster);

 private:
  std::string_view text_;
  size_t position_ = 0;
  void* breaker_ = nullptr;  // UBreakIterator, opened when the first character beyond ASCII appears
  void* utext_ = nullptr;
};

}  // namespace fettle::text::unicode
