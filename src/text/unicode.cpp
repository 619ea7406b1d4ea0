#include "text/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>

#include "base/error.h"
#include "base/utf8.h"

namespace fettle::text::unicode {
namespace {

constexpr uint16_t category_classes(int category) {
  switch (category) {
    case U_UPPERCASE_LETTER:
    case U_TITLECASE_LETTER:
      return kLetter | kUpperLike;
    case U_LOWERCASE_LETTER:
      return kLetter | kLowerLike;
    case U_MODIFIER_LETTER:
    case U_OTHER_LETTER:
      return kLetter | kUpperLike | kLowerLike;
    case U_NON_SPACING_MARK:
      return kMark | kNonspacingMark | kUpperLike | kLowerLike;
    case U_ENCLOSING_MARK:
    case U_COMBINING_SPACING_MARK:
      return kMark | kUpperLike | kLowerLike;
    case U_DECIMAL_DIGIT_NUMBER:
      return kNumber | kDecimalDigit;
    case U_LETTER_NUMBER:
    case U_OTHER_NUMBER:
      return kNumber;
    case U_SPACE_SEPARATOR:
    case U_LINE_SEPARATOR:
    case U_PARAGRAPH_SEPARATOR:
      return kSpace;
    case U_CONNECTOR_PUNCTUATION:
      return kPunctuation | kConnector;
    case U_DASH_PUNCTUATION:
    case U_START_PUNCTUATION:
    case U_END_PUNCTUATION:
    case U_OTHER_PUNCTUATION:
    case U_INITIAL_PUNCTUATION:
    case U_FINAL_PUNCTUATION:
      return kPunctuation;
    case U_MATH_SYMBOL:
    case U_CURRENCY_SYMBOL:
    case U_MODIFIER_SYMBOL:
    case U_OTHER_SYMBOL:
      return kSymbol;
    default:
      return kOther;
  }
}

void check(UErrorCode status, const char* what) {
  if (U_FAILURE(status)) fail(ErrorCode::kInternal, "ICU: {}: {}", what, u_errorName(status));
}

const icu::Normalizer2& normalizer(Form form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* instance = nullptr;
  switch (form) {
    case Form::kNfc:
      instance = icu::Normalizer2::getNFCInstance(status);
      break;
    case Form::kNfd:
      instance = icu::Normalizer2::getNFDInstance(status);
      break;
    case Form::kNfkc:
      instance = icu::Normalizer2::getNFKCInstance(status);
      break;
    case Form::kNfkd:
      instance = icu::Normalizer2::getNFKDInstance(status);
      break;
  }
  check(status, "normalizer");
  return *instance;
}

}  // namespace

uint16_t classes_beyond_ascii(char32_t c) {
  const uint16_t bits = category_classes(u_charType(static_cast<UChar32>(c)));
  return c == 0x85 ? bits | kSpace : bits;  // NEL: category Cc, yet White_Space
}

bool is_word(char32_t c) {
  if (c < 128) return kAsciiClasses[c] & (kLetter | kNumber | kConnector);
  return (classes_beyond_ascii(c) & (kMark | kDecimalDigit | kConnector)) || c == 0x200C || c == 0x200D ||
         u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_ALPHABETIC);
}

int script(char32_t c) {
  UErrorCode status = U_ZERO_ERROR;
  const UScriptCode code = uscript_getScript(static_cast<UChar32>(c), &status);
  return code == USCRIPT_UNKNOWN ? -1 : code;
}

bool is_script_name(std::string_view name) {
  return u_getPropertyValueEnum(UCHAR_SCRIPT, std::string(name).c_str()) != UCHAR_INVALID_CODE;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const utf8::Decoded d = utf8::decode(text, pos);
    pos += d.length;
    if (d.code_point == 0x130)
      out += "i\xCC\x87";  // the only character whose lower case is longer than one: U+0130 -> U+0069 U+0307
    else
      utf8::append(out, static_cast<char32_t>(u_tolower(static_cast<UChar32>(d.code_point))));
  }
  return out;
}

std::string normalize(std::string_view text, Form form) {
  std::string out;
  icu::StringByteSink<std::string> sink(&out, static_cast<int32_t>(text.size()));
  UErrorCode status = U_ZERO_ERROR;
  normalizer(form).normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr,
                                 status);
  check(status, "normalizeUTF8");
  return out;
}

Graphemes::Graphemes(std::string_view text) : text_(text) {}

Graphemes::~Graphemes() {
  if (breaker_) ubrk_close(static_cast<UBreakIterator*>(breaker_));
  if (utext_) utext_close(static_cast<UText*>(utext_));
}

bool Graphemes::next(std::string_view* cluster) {
  if (position_ >= text_.size()) return false;
  const auto byte = [&](size_t i) { return i < text_.size() ? static_cast<unsigned char>(text_[i]) : 0u; };
  size_t end = position_ + 1;
  // Two ASCII characters never join, except CR LF.
  if (byte(position_) >= 0x80 || byte(end) >= 0x80 || byte(position_) == '\r') {
    if (!breaker_) {
      UErrorCode status = U_ZERO_ERROR;
      utext_ = utext_openUTF8(nullptr, text_.data(), static_cast<int64_t>(text_.size()), &status);
      breaker_ = ubrk_open(UBRK_CHARACTER, "", nullptr, 0, &status);
      ubrk_setUText(static_cast<UBreakIterator*>(breaker_), static_cast<UText*>(utext_), &status);
      check(status, "grapheme iterator");
    }
    const int32_t boundary = ubrk_following(static_cast<UBreakIterator*>(breaker_), static_cast<int32_t>(position_));
    end = boundary == UBRK_DONE ? text_.size() : static_cast<size_t>(boundary);
  }
  *cluster = text_.substr(position_, end - position_);
  position_ = end;
  return true;
}

}  // namespace fettle::text::unicode
