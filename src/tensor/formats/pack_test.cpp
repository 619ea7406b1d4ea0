#include "tensor/formats/pack.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"

namespace fettle::formats {
namespace {

std::vector<uint8_t> random_codes(size_t n, int bits, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> codes(n);
  for (uint8_t& c : codes) c = static_cast<uint8_t>(random.below(uint64_t{1} << bits));
  return codes;
}

TEST(Pack, BitsByHand) {
  // b = 3: codes 1..7 and 5 .. fill bits 0..32: the eleventh straddles into the second word.
  const std::vector<uint8_t> codes = {1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 7};
  uint64_t stream = 0;
  for (size_t i = 0; i < codes.size(); ++i) stream |= static_cast<uint64_t>(codes[i]) << (3 * i);
  const std::vector<int32_t> words = pack_int32(codes, 1, codes.size(), 3);
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(static_cast<uint32_t>(words[0]), static_cast<uint32_t>(stream));
  EXPECT_EQ(static_cast<uint32_t>(words[1]), static_cast<uint32_t>(stream >> 32));
  EXPECT_EQ(pack_int32(std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 8}, 1, 8, 4)[0], static_cast<int32_t>(0x87654321u));
}

TEST(Pack, RoundTripsOddSizes) {
  for (int bits = 1; bits <= 8; ++bits)
    for (const size_t rows : {1u, 5u, 33u})
      for (const size_t cols : {1u, 7u, 31u, 32u, 33u, 77u}) {
        const std::vector<uint8_t> codes = random_codes(rows * cols, bits, rows * 100 + cols);
        const auto along = pack_int32(codes, rows, cols, bits);
        EXPECT_EQ(along.size(), rows * packed_words(cols, bits));
        EXPECT_EQ(unpack_int32(std::as_bytes(std::span(along)), rows, cols, bits), codes);
        const auto down = pack_int32_rows(codes, rows, cols, bits);
        EXPECT_EQ(down.size(), packed_words(rows, bits) * cols);
        EXPECT_EQ(unpack_int32_rows(std::as_bytes(std::span(down)), rows, cols, bits), codes) << bits;
      }
}

TEST(Pack, FourBitWordsAreCanonicalPairs) {
  const std::vector<uint8_t> codes = random_codes(3 * 24, 4, 1);
  const auto words = pack_int32(codes, 3, 24, 4);
  std::vector<uint8_t> pairs(36);
  pack_nibbles(codes, pairs.data());
  EXPECT_EQ(std::memcmp(words.data(), pairs.data(), pairs.size()), 0);
}

TEST(Pack, NibblesOfOddLength) {
  for (const size_t n : {0u, 1u, 2u, 15u, 16u, 17u}) {
    const std::vector<uint8_t> codes = random_codes(n, 4, n);
    std::vector<uint8_t> pairs((n + 1) / 2, 0xFF), back(n);
    pack_nibbles(codes, pairs.data());
    unpack_nibbles(pairs.data(), back);
    EXPECT_EQ(back, codes);
    if (n % 2 == 1) {
      EXPECT_EQ(pairs.back() >> 4, 0);
    }
  }
}

TEST(Pack, RefusesWrongSizes) {
  const std::vector<uint8_t> codes(8);
  EXPECT_THROW(pack_int32(codes, 3, 3, 4), Error);
  EXPECT_THROW(pack_int32(codes, 2, 4, 9), Error);
  const std::vector<std::byte> words(8);
  EXPECT_THROW(unpack_int32(words, 1, 8, 4), Error);
  EXPECT_THROW(unpack_int32_rows(words, 1, 3, 4), Error);
}

}  // namespace
}  // namespace fettle::formats
