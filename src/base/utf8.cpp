#include "base/utf8.h"

namespace fettle::utf8 {
namespace {

bool is_continuation(unsigned char c) { return (c & 0xC0) == 0x80; }

struct Lead {
  uint8_t length;     // 0 = not a lead byte
  uint8_t second_lo;  // allowed range of the second byte
  uint8_t second_hi;
};

Lead classify(unsigned char c) {
  if (c >= 0xC2 && c <= 0xDF) return {2, 0x80, 0xBF};
  if (c == 0xE0) return {3, 0xA0, 0xBF};
  if (c == 0xED) return {3, 0x80, 0x9F};
  if (c >= 0xE1 && c <= 0xEF) return {3, 0x80, 0xBF};
  if (c == 0xF0) return {4, 0x90, 0xBF};
  if (c >= 0xF1 && c <= 0xF3) return {4, 0x80, 0xBF};
  if (c == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Decoded decode(std::string_view text, size_t pos) {
  const auto c = static_cast<unsigned char>(text[pos]);
  if (c < 0x80) return {c, 1, true};
  const Lead lead = classify(c);
  if (lead.length == 0) return {0xFFFD, 1, false};
  char32_t value = c & (0x7F >> lead.length);
  for (uint8_t i = 1; i < lead.length; ++i) {
    if (pos + i >= text.size()) return {0xFFFD, i, false};
    const auto next = static_cast<unsigned char>(text[pos + i]);
    const bool in_range = i == 1 ? next >= lead.second_lo && next <= lead.second_hi : is_continuation(next);
    if (!in_range) return {0xFFFD, i, false};
    value = (value << 6) | (next & 0x3F);
  }
  return {value, lead.length, true};
}

size_t first_invalid(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    const Decoded d = decode(text, pos);
    if (!d.valid) return pos;
    pos += d.length;
  }
  return std::string_view::npos;
}

bool is_valid(std::string_view text) { return first_invalid(text) == std::string_view::npos; }

void append(std::string& out, char32_t cp) {
  if (cp < 0x80) {
    out += static_cast<char>(cp);
  } else if (cp < 0x800) {
    out += static_cast<char>(0xC0 | (cp >> 6));
    out += static_cast<char>(0x80 | (cp & 0x3F));
  } else if (cp < 0x10000) {
    out += static_cast<char>(0xE0 | (cp >> 12));
    out += static_cast<char>(0x80 | ((cp >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (cp & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (cp >> 18));
    out += static_cast<char>(0x80 | ((cp >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((cp >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (cp & 0x3F));
  }
}

std::string sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const Decoded d = decode(text, pos);
    append(out, d.code_point);
    pos += d.length;
  }
  return out;
}

size_t incomplete_tail(std::string_view text) {
  const size_t longest = text.size() < 3 ? text.size() : 3;
  for (size_t back = 1; back <= longest; ++back) {
    const size_t start = text.size() - back;
    const auto c = static_cast<unsigned char>(text[start]);
    if (is_continuation(c)) continue;
    const Lead lead = classify(c);
    if (lead.length <= back) return 0;
    const Decoded d = decode(text, start);  // ill-formed with all bytes consumed = a prefix that may still complete
    return !d.valid && d.length == back ? back : 0;
  }
  return 0;
}

std::u32string to_utf32(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const Decoded d = decode(text, pos);
    out += d.code_point;
    pos += d.length;
  }
  return out;
}

std::string to_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t cp : text) append(out, cp);
  return out;
}

}  // namespace fettle::utf8
