#include "text/jinja/characters.h"

#include <unicode/uchar.h>
#include <unicode/ustring.h>

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "base/utf8.h"

namespace fettle::text::jinja {
namespace {

UChar32 icu(char32_t c) { return static_cast<UChar32>(c); }

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

UNumericType numeric_type(char32_t c) {
  return static_cast<UNumericType>(u_getIntPropertyValue(icu(c), UCHAR_NUMERIC_TYPE));
}

std::u16string to_utf16(std::string_view text) {
  std::u16string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto d = utf8::decode(text, at);
    at += d.length;
    if (d.code_point < 0x10000) {
      out += static_cast<char16_t>(d.code_point);
    } else {
      out += static_cast<char16_t>(U16_LEAD(d.code_point));
      out += static_cast<char16_t>(U16_TRAIL(d.code_point));
    }
  }
  return out;
}

std::string from_utf16(std::u16string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    UChar32 c = 0;
    U16_NEXT(text.data(), i, text.size(), c);
    utf8::append(out, static_cast<char32_t>(c));
  }
  return out;
}

// Runs an ICU string mapping of the root locale with the full (length-changing) rules.
template <typename Mapping>
std::string map_string(std::string_view text, Mapping mapping) {
  const std::u16string source = to_utf16(text);
  // No full case mapping makes a string more than three times longer (Unicode, SpecialCasing.txt).
  std::u16string target(source.size() * 3 + 1, u'\0');
  UErrorCode status = U_ZERO_ERROR;
  const int32_t length =
      mapping(target.data(), narrow<int32_t>(target.size()), source.data(), narrow<int32_t>(source.size()), &status);
  if (U_FAILURE(status)) fail(ErrorCode::kInternal, "case mapping: ICU reports {}", u_errorName(status));
  return from_utf16(std::u16string_view(target).substr(0, static_cast<size_t>(length)));
}

bool is_cased(char32_t c) { return is_lower(c) || is_upper(c) || is_title(c); }

// The full title-case form of one code point.
std::string title_of(char32_t c) {
  std::string one;
  utf8::append(one, c);
  return map_string(one, [](char16_t* d, int32_t n, const char16_t* s, int32_t m, UErrorCode* e) {
    return u_strToTitle(d, n, s, m, nullptr, "", e);
  });
}

}  // namespace

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
  if (u_charType(icu(c)) == U_SPACE_SEPARATOR) return true;
  const UCharDirection direction = u_charDirection(icu(c));
  return direction == U_WHITE_SPACE_NEUTRAL || direction == U_BLOCK_SEPARATOR || direction == U_SEGMENT_SEPARATOR;
}

bool is_alpha(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return (U_MASK(u_charType(icu(c))) & U_GC_L_MASK) != 0;
}

bool is_decimal(char32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : numeric_type(c) == U_NT_DECIMAL; }
bool is_digit(char32_t c) { return is_decimal(c) || (c >= 0x80 && numeric_type(c) == U_NT_DIGIT); }
bool is_numeric(char32_t c) { return is_digit(c) || (c >= 0x80 && numeric_type(c) == U_NT_NUMERIC); }
bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c); }
bool is_lower(char32_t c) { return c < 0x80 ? c >= 'a' && c <= 'z' : u_hasBinaryProperty(icu(c), UCHAR_LOWERCASE); }
bool is_upper(char32_t c) { return c < 0x80 ? c >= 'A' && c <= 'Z' : u_hasBinaryProperty(icu(c), UCHAR_UPPERCASE); }
bool is_title(char32_t c) { return c >= 0x80 && u_charType(icu(c)) == U_TITLECASE_LETTER; }

bool is_printable(char32_t c) {
  if (c < 0x80) return c >= 32 && c < 127;
  constexpr uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_MASK(u_charType(icu(c))) & kHidden) == 0;
}

bool is_identifier_start(char32_t c) {
  return c == '_' || is_alpha(c) || (c >= 0x80 && u_hasBinaryProperty(icu(c), UCHAR_XID_START));
}
bool is_identifier_part(char32_t c) {
  return is_identifier_start(c) || is_decimal(c) || (c >= 0x80 && u_hasBinaryProperty(icu(c), UCHAR_XID_CONTINUE));
}

std::string to_upper(std::string_view text) {
  if (is_ascii(text)) {
    std::string out(text);
    for (char& c : out)
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    return out;
  }
  return map_string(text, [](char16_t* d, int32_t n, const char16_t* s, int32_t m, UErrorCode* e) {
    return u_strToUpper(d, n, s, m, "", e);
  });
}

std::string to_lower(std::string_view text) {
  if (is_ascii(text)) {
    std::string out(text);
    for (char& c : out)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    return out;
  }
  return map_string(text, [](char16_t* d, int32_t n, const char16_t* s, int32_t m, UErrorCode* e) {
    return u_strToLower(d, n, s, m, "", e);
  });
}

std::string case_fold(std::string_view text) {
  if (is_ascii(text)) return to_lower(text);
  return map_string(text, [](char16_t* d, int32_t n, const char16_t* s, int32_t m, UErrorCode* e) {
    return u_strFoldCase(d, n, s, m, U_FOLD_CASE_DEFAULT, e);
  });
}

// A cased character that follows a cased one is lowered, any other is put into title case.
std::string to_title(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const size_t end = next_byte(text, at);
    const char32_t c = code_point_at(text, at);
    out += in_word ? to_lower(text.substr(at, end - at)) : title_of(c);
    in_word = is_cased(c);
    at = end;
  }
  return out;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const size_t first_end = next_byte(text, 0);
  return title_of(code_point_at(text, 0)) + to_lower(text.substr(first_end));
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = next_byte(text, at);
    const char32_t c = code_point_at(text, at);
    const std::string_view one = text.substr(at, end - at);
    if (is_upper(c))
      out += to_lower(one);
    else if (is_lower(c))
      out += to_upper(one);
    else
      out += one;
    at = end;
  }
  return out;
}

size_t code_points(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

size_t byte_offset(std::string_view text, size_t index) {
  for (size_t at = 0; at < text.size(); at = next_byte(text, at), --index)
    if (index == 0) return at;
  return text.size();
}

size_t next_byte(std::string_view text, size_t byte) {
  for (++byte; byte < text.size() && (text[byte] & 0xC0) == 0x80;) ++byte;
  return byte;
}

size_t previous_byte(std::string_view text, size_t byte) {
  for (--byte; byte > 0 && (text[byte] & 0xC0) == 0x80;) --byte;
  return byte;
}

char32_t code_point_at(std::string_view text, size_t byte) { return utf8::decode(text, byte).code_point; }

size_t skip_space(std::string_view text, size_t byte) {
  while (byte < text.size() && is_space(code_point_at(text, byte))) byte = next_byte(text, byte);
  return byte;
}

size_t trimmed_end(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t before = previous_byte(text, end);
    if (!is_space(code_point_at(text, before))) break;
    end = before;
  }
  return end;
}

}  // namespace fettle::text::jinja
