#pragma once

#include <cstddef>
#include <string>
#include <string_view>

// Strings as Python sees them: sequences of code points with Unicode classes and full case mappings (from ICU). All
// texts are well-formed UTF-8; positions called `byte` are offsets, counts are code points.
namespace fettle::text::jinja {

bool is_space(char32_t c);  // str.isspace: category Zs or bidirectional class WS, B or S
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_alnum(char32_t c);
bool is_lower(char32_t c);
bool is_upper(char32_t c);
bool is_title(char32_t c);
bool is_printable(char32_t c);  // str.isprintable; repr() escapes the others
bool is_identifier_start(char32_t c);
bool is_identifier_part(char32_t c);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);  // str.title
std::string capitalize(std::string_view text);
std::string swap_case(std::string_view text);
std::string case_fold(std::string_view text);

size_t code_points(std::string_view text);
// Offset of code point `index`; text.size() when there are not so many.
size_t byte_offset(std::string_view text, size_t index);
size_t next_byte(std::string_view text, size_t byte);      // start of the following code point
size_t previous_byte(std::string_view text, size_t byte);  // start of the code point before `byte`, byte > 0
char32_t code_point_at(std::string_view text, size_t byte);

size_t skip_space(std::string_view text, size_t byte);  // first non-space at or after byte
size_t trimmed_end(std::string_view text);              // end of the text without trailing space

}  // namespace fettle::text::jinja
