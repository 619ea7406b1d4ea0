#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// Prefix codes over the 8 exponent bits of BF16 weights and the look-up tables that DFloat11 stores instead of them
// (arXiv 2504.11651; LeanModels/DFloat11 at 4577338).
namespace fettle::df11 {

using Histogram = std::array<uint64_t, 256>;  // counts of exponents

inline constexpr int kEnd = -1;            // the artificial end symbol of upstream's code
inline constexpr int kMaxLength = 32;      // decoders read at most this far ahead
inline constexpr int kFirstPointer = 240;  // table values from here on point at another page
inline constexpr size_t kMaxPages = 17;    // page 0 and the 16 that a pointer can name

struct Code {
  int symbol = 0;      // exponent, or kEnd
  uint8_t length = 0;  // bits
  uint32_t bits = 0;   // right-aligned, sent most significant bit first
};

struct CodeBook {
  std::vector<Code> codes;     // in the order of their first differing bit, 0 before 1
  std::vector<int> flattened;  // symbols whose count was lowered to 1 to keep codes within 32 bits

  const Code* find(int symbol) const;  // nullptr when absent
};

// Huffman code of the exponents that occur plus an end symbol of count 1, in the tree that upstream's library
// (dahuffman 0.4.2) builds: the two smallest nodes by (count, first symbol) join, the smaller one gets bit 0. Codes
// beyond 32 bits: the k = 2, 3, ... rarest exponents count as 1 until all fit.
CodeBook upstream_code(const Histogram& counts);

// Best code with lengths from min_length to max_length and no end symbol (package-merge), canonical by (length,
// symbol). At most 2^max_length exponents may occur.
CodeBook limited_code(const Histogram& counts, int max_length = 11, int min_length = 1);

// Pages and length row, [P + 1][256] bytes. A page belongs to a code prefix of 0, 8, 16 or 24 bits; entry i of a page
// is the exponent whose code ends in byte i, or 256 - page of the longer prefix. Entries that no exponent reaches
// repeat the entry before, across pages; at the very start they take the first entry that follows. Last row: code
// length per exponent. The caller checks the limits of the format (unit.h): pages beyond 16 get no valid pointer.
std::vector<uint8_t> build_luts(const CodeBook& book);

}  // namespace fettle::df11
