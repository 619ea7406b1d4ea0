#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fettle::utf8 {

struct Decoded {
  char32_t code_point;  // U+FFFD when !valid
  uint8_t length;       // bytes consumed; for an ill-formed sequence the length of its maximal subpart, at least 1
  bool valid;
};

// Decodes the scalar value that starts at text[pos]; pos < text.size(). Rejects overlong forms, surrogates and
// values above U+10FFFF (Unicode 15, table 3-7).
Decoded decode(std::string_view text, size_t pos);

bool is_valid(std::string_view text);

// Position of the first ill-formed byte, or npos.
size_t first_invalid(std::string_view text);

// Appends the UTF-8 form of a scalar value.
void append(std::string& out, char32_t code_point);

// Replaces every maximal ill-formed subpart by U+FFFD.
std::string sanitize(std::string_view text);

// Length of the longest suffix (0..3) that is a proper prefix of some well-formed sequence: bytes a streaming
// writer must hold back.
size_t incomplete_tail(std::string_view text);

std::u32string to_utf32(std::string_view text);  // ill-formed parts become U+FFFD
std::string to_utf8(std::u32string_view text);

}  // namespace fettle::utf8
