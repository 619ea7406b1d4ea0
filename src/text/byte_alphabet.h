#pragma once

#include <optional>
#include <string>
#include <string_view>

// The printable alphabet of byte-level BPE (GPT-2): bytes 33-126, 161-172 and 174-255 stand for the character of the
// same number, the other 68 bytes, in order, for U+0100 .. U+0143.
namespace fettle::text::byte_alphabet {

char32_t symbol(unsigned char byte);
std::optional<unsigned char> byte(char32_t symbol);

std::string encode(std::string_view bytes);                   // every byte becomes its symbol (UTF-8)
std::optional<std::string> decode(std::string_view symbols);  // nullopt when a character is not in the alphabet

}  // namespace fettle::text::byte_alphabet
