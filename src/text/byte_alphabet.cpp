#include "text/byte_alphabet.h"

#include <array>

#include "base/utf8.h"

namespace fettle::text::byte_alphabet {
namespace {

struct Tables {
  std::array<char32_t, 256> symbol{};
  std::array<int16_t, 0x144> byte{};  // -1: not in the alphabet
};

constexpr Tables make_tables() {
  Tables t;
  for (auto& b : t.byte) b = -1;
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    t.symbol[b] = itself ? b : next++;
    t.byte[t.symbol[b]] = static_cast<int16_t>(b);
  }
  return t;
}

constexpr Tables kTables = make_tables();
static_assert(kTables.symbol[' '] == 0x120 && kTables.symbol[173] == 0x143);

}  // namespace

char32_t symbol(unsigned char byte) { return kTables.symbol[byte]; }

std::optional<unsigned char> byte(char32_t symbol) {
  if (symbol >= kTables.byte.size() || kTables.byte[symbol] < 0) return std::nullopt;
  return static_cast<unsigned char>(kTables.byte[symbol]);
}

std::string encode(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 4);
  for (char c : bytes) utf8::append(out, kTables.symbol[static_cast<unsigned char>(c)]);
  return out;
}

std::optional<std::string> decode(std::string_view symbols) {
  std::string out;
  out.reserve(symbols.size());
  for (size_t pos = 0; pos < symbols.size();) {
    const utf8::Decoded d = utf8::decode(symbols, pos);
    const auto b = byte(d.code_point);
    if (!b) return std::nullopt;
    out += static_cast<char>(*b);
    pos += d.length;
  }
  return out;
}

}  // namespace fettle::text::byte_alphabet
