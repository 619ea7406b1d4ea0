#include "tensor/formats/pack.h"

#include <cstring>

#include "base/error.h"

namespace fettle::formats {
namespace {

void check_bits(int bits) { FETTLE_CHECK(bits >= 1 && bits <= 8); }

// Appends codes to a bit stream whose words are `stride` words apart.
class BitWriter {
 public:
  BitWriter(int32_t* words, size_t stride, int bits) : words_(words), stride_(stride), bits_(bits) {}
  void put(uint8_t code) {
    window_ |= static_cast<uint64_t>(code) << used_;
    used_ += bits_;
    if (used_ >= 32) flush();
  }
  void finish() {
    if (used_ > 0) flush();
  }

 private:
  void flush() {
    *words_ = static_cast<int32_t>(static_cast<uint32_t>(window_));
    words_ += stride_;
    window_ >>= 32;
    used_ = used_ > 32 ? used_ - 32 : 0;
  }
  int32_t* words_;
  size_t stride_;
  int bits_, used_ = 0;
  uint64_t window_ = 0;
};

class BitReader {
 public:
  BitReader(const std::byte* words, size_t stride, int bits)
      : words_(words), stride_(stride * 4), bits_(bits), mask_((1u << bits) - 1) {}
  uint8_t get() {
    if (left_ < bits_) {
      uint32_t word;
      std::memcpy(&word, words_, 4);
      words_ += stride_;
      window_ |= static_cast<uint64_t>(word) << left_;
      left_ += 32;
    }
    const auto code = static_cast<uint8_t>(window_ & mask_);
    window_ >>= bits_;
    left_ -= bits_;
    return code;
  }

 private:
  const std::byte* words_;
  size_t stride_;
  int bits_, left_ = 0;
  uint32_t mask_;
  uint64_t window_ = 0;
};

}  // namespace

size_t packed_words(size_t n, int bits) { return (n * static_cast<size_t>(bits) + 31) / 32; }

std::vector<int32_t> pack_int32(std::span<const uint8_t> codes, size_t rows, size_t cols, int bits) {
  check_bits(bits);
  FETTLE_CHECK_EQ(codes.size(), rows * cols);
  const size_t per_row = packed_words(cols, bits);
  std::vector<int32_t> words(rows * per_row);
  for (size_t r = 0; r < rows; ++r) {
    BitWriter out(words.data() + r * per_row, 1, bits);
    for (size_t c = 0; c < cols; ++c) out.put(codes[r * cols + c]);
    out.finish();
  }
  return words;
}

std::vector<int32_t> pack_int32_rows(std::span<const uint8_t> codes, size_t rows, size_t cols, int bits) {
  check_bits(bits);
  FETTLE_CHECK_EQ(codes.size(), rows * cols);
  std::vector<int32_t> words(packed_words(rows, bits) * cols);
  for (size_t c = 0; c < cols; ++c) {
    BitWriter out(words.data() + c, cols, bits);
    for (size_t r = 0; r < rows; ++r) out.put(codes[r * cols + c]);
    out.finish();
  }
  return words;
}

std::vector<uint8_t> unpack_int32(std::span<const std::byte> words, size_t rows, size_t cols, int bits) {
  check_bits(bits);
  const size_t per_row = packed_words(cols, bits);
  FETTLE_CHECK_EQ(words.size(), rows * per_row * 4);
  std::vector<uint8_t> codes(rows * cols);
  for (size_t r = 0; r < rows; ++r) {
    BitReader in(words.data() + r * per_row * 4, 1, bits);
    for (size_t c = 0; c < cols; ++c) codes[r * cols + c] = in.get();
  }
  return codes;
}

std::vector<uint8_t> unpack_int32_rows(std::span<const std::byte> words, size_t rows, size_t cols, int bits) {
  check_bits(bits);
  FETTLE_CHECK_EQ(words.size(), packed_words(rows, bits) * cols * 4);
  std::vector<uint8_t> codes(rows * cols);
  for (size_t c = 0; c < cols; ++c) {
    BitReader in(words.data() + c * 4, cols, bits);
    for (size_t r = 0; r < rows; ++r) codes[r * cols + c] = in.get();
  }
  return codes;
}

void pack_nibbles(std::span<const uint8_t> codes, uint8_t* pairs) {
  const size_t whole = codes.size() / 2;
  for (size_t j = 0; j < whole; ++j) pairs[j] = static_cast<uint8_t>(codes[2 * j] | (codes[2 * j + 1] << 4));
  if (codes.size() % 2 != 0) pairs[whole] = codes.back();
}

void unpack_nibbles(const uint8_t* pairs, std::span<uint8_t> codes) {
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>((pairs[i / 2] >> (4 * (i % 2))) & 15);
}

}  // namespace fettle::formats
