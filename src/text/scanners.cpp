#include "text/scanners.h"

#include "base/error.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace fettle::text {
namespace {

using namespace unicode;  // class bits

struct Known {
  KnownPattern id;
  std::string_view text;
};

constexpr Known kKnown[] = {
    {KnownPattern::kGpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {KnownPattern::kCl100k,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {KnownPattern::kQwen2,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {KnownPattern::kQwen35,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {KnownPattern::kO200k,
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
     R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {KnownPattern::kTekken, R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                            R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                            R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
};

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  struct Char {
    uint16_t classes;  // 0 at the end of the text
    uint8_t length;
  };
  Char at(size_t pos) const {
    if (pos >= text_.size()) return {0, 0};
    const auto c = static_cast<unsigned char>(text_[pos]);
    if (c < 0x80) return {kAsciiClasses[c], 1};
    const utf8::Decoded d = utf8::decode(text_, pos);
    return {classes_beyond_ascii(d.code_point), d.length};
  }
  unsigned char byte(size_t pos) const { return pos < text_.size() ? static_cast<unsigned char>(text_[pos]) : 0; }
  bool is_newline(size_t pos) const { return byte(pos) == '\r' || byte(pos) == '\n'; }

  // End of the longest run of characters that have one of the bits.
  size_t run(size_t pos, uint16_t bits, size_t limit = SIZE_MAX) const {
    for (size_t n = 0; n < limit; ++n) {
      const Char c = at(pos);
      if (!(c.classes & bits)) break;
      pos += c.length;
    }
    return pos;
  }
  // End of the longest run of characters that have none of the bits.
  size_t run_without(size_t pos, uint16_t bits) const {
    for (Char c = at(pos); c.length > 0 && !(c.classes & bits); c = at(pos)) pos += c.length;
    return pos;
  }
  size_t newlines(size_t pos, bool slash) const {
    while (is_newline(pos) || (slash && byte(pos) == '/')) ++pos;
    return pos;
  }

  // Length of an English contraction ('s 't 're 've 'm 'll 'd) at pos; 0 if none. Without case, the long s (U+017F)
  // folds to s.
  size_t contraction(size_t pos, bool any_case) const {
    if (byte(pos) != '\'') return 0;
    const auto letter = [&](size_t p) {
      const unsigned char c = byte(p);
      return static_cast<unsigned char>(any_case && c >= 'A' && c <= 'Z' ? c + 32 : c);
    };
    const unsigned char a = letter(pos + 1), b = letter(pos + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    if (any_case && byte(pos + 1) == 0xC5 && byte(pos + 2) == 0xBF) return 3;
    return 0;
  }

  // \s*[\r\n]+ (if asked) | \s+(?!\S) | \s+ ; pos is at white space.
  size_t spaces(size_t pos, bool newline_rule) const {
    size_t end = pos, last = pos, after_newline = 0;
    for (Char c = at(end); c.classes & kSpace; c = at(end)) {
      last = end;
      end += c.length;
      if (is_newline(last)) after_newline = end;
    }
    if (newline_rule && after_newline > 0) return after_newline;
    return end == text_.size() || last == pos ? end : last;  // leave one space for the word that follows
  }

 private:
  std::string_view text_;
};

size_t gpt2_end(const Scanner& s, size_t pos) {
  if (const size_t n = s.contraction(pos, false)) return pos + n;
  const size_t word = pos + (s.byte(pos) == ' ' ? 1 : 0);
  const auto c = s.at(word);
  if (c.classes & kLetter) return s.run(word, kLetter);
  if (c.classes & kNumber) return s.run(word, kNumber);
  if (c.length > 0 && !(c.classes & kSpace)) return s.run_without(word, kSpace | kLetter | kNumber);
  return s.spaces(pos, false);
}

// The rules that CL100K, O200K and their kin share after words: numbers, punctuation, white space.
size_t common_end(const Scanner& s, size_t pos, size_t digits, uint16_t word_bits, bool slash) {
  const auto c = s.at(pos);
  if (c.classes & kNumber) return s.run(pos, kNumber, digits);
  const uint16_t stop = kSpace | kNumber | word_bits;
  const size_t mark = pos + (s.byte(pos) == ' ' ? 1 : 0);
  const auto m = s.at(mark);
  if (m.length > 0 && !(m.classes & stop)) return s.newlines(s.run_without(mark, stop), slash);
  return s.spaces(pos, true);
}

size_t cl100k_end(const Scanner& s, size_t pos, size_t digits, uint16_t word_bits) {
  if (const size_t n = s.contraction(pos, true)) return pos + n;
  const auto c = s.at(pos);
  if (c.classes & word_bits) return s.run(pos, word_bits);
  if (!(c.classes & (kLetter | kNumber)) && !s.is_newline(pos)) {
    const size_t end = s.run(pos + c.length, word_bits);
    if (end > pos + c.length) return end;
  }
  return common_end(s, pos, digits, word_bits, false);
}

// U*W+ with U = kUpperLike, W = kLowerLike; 0 if it does not match at pos.
size_t upper_then_lower(const Scanner& s, size_t pos) {
  size_t upper_end = pos, last_shared_end = 0;
  for (auto c = s.at(upper_end); c.classes & kUpperLike; c = s.at(upper_end)) {
    upper_end += c.length;
    if (c.classes & kLowerLike) last_shared_end = upper_end;
  }
  const size_t lower_end = s.run(upper_end, kLowerLike);
  if (lower_end > upper_end) return lower_end;
  return last_shared_end;  // U* gives back up to the last character that W+ can take
}

// U+W*; 0 if it does not match at pos.
size_t uppers(const Scanner& s, size_t pos) {
  const size_t end = s.run(pos, kUpperLike);
  return end == pos ? 0 : s.run(end, kLowerLike);
}

size_t o200k_end(const Scanner& s, size_t pos, size_t digits, bool contractions) {
  const auto c = s.at(pos);
  const bool prefix = !(c.classes & (kLetter | kNumber)) && !s.is_newline(pos);
  const size_t word = pos + c.length;
  size_t end = 0;
  if (prefix) end = upper_then_lower(s, word);
  if (end == 0) end = upper_then_lower(s, pos);
  if (end == 0 && prefix) end = uppers(s, word);
  if (end == 0) end = uppers(s, pos);
  if (end > 0) return contractions ? end + s.contraction(end, true) : end;
  return common_end(s, pos, digits, kLetter, true);
}

}  // namespace

std::string_view pattern_text(KnownPattern pattern) {
  for (const Known& k : kKnown)
    if (k.id == pattern) return k.text;
  fail(ErrorCode::kInternal, "pattern without text");
}

std::optional<KnownPattern> recognise_pattern(std::string_view pattern) {
  for (const Known& k : kKnown)
    if (k.text == pattern) return k.id;
  return std::nullopt;
}

size_t next_piece_end(KnownPattern pattern, std::string_view text, size_t begin) {
  const Scanner s(text);
  switch (pattern) {
    case KnownPattern::kGpt2:
      return gpt2_end(s, begin);
    case KnownPattern::kCl100k:
      return cl100k_end(s, begin, 3, kLetter);
    case KnownPattern::kQwen2:
      return cl100k_end(s, begin, 1, kLetter);
    case KnownPattern::kQwen35:
      return cl100k_end(s, begin, 1, kLetter | kMark);
    case KnownPattern::kO200k:
      return o200k_end(s, begin, 3, true);
    case KnownPattern::kTekken:
      return o200k_end(s, begin, 1, false);
  }
  fail(ErrorCode::kInternal, "pattern without scanner");
}

}  // namespace fettle::text
