#include "tensor/formats/gguf_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/swar.h"
#include "tensor/formats/test_util.h"
#include "tensor/metrics.h"

namespace fettle::formats {
namespace {

using testing::HasSubstr;

TEST(Swar, MovesBitsWithoutLoss) {
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t v = (static_cast<uint64_t>(random.bits()) << 32) | random.bits();
    EXPECT_EQ(unpair(pair_up(v & kNibbles)), v & kNibbles);
    EXPECT_EQ(pair_up(v & kNibbles) & 0xFF, (v & 15) | ((v >> 4) & 0xF0));
    EXPECT_EQ(add_bias<16>(subtract_bias<16>(v & every_lane(31))), v & every_lane(31));
    EXPECT_EQ(add_bias<32>(subtract_bias<32>(v & every_lane(63))), v & every_lane(63));
  }
  for (uint32_t b = 0; b < 256; ++b) {
    const uint64_t lanes = spread_bits(static_cast<uint8_t>(b));
    for (int i = 0; i < 8; ++i) EXPECT_EQ((lanes >> (8 * i)) & 0xFF, (b >> i) & 1);
    EXPECT_EQ(gather_bits(lanes), b);
    const uint64_t biased = subtract_bias<16>(b & 31);
    EXPECT_EQ(static_cast<int8_t>(biased & 0xFF), static_cast<int>(b & 31) - 16);
  }
}

// Every code and every scale bit pattern: random bytes, except scale bytes that no reader gives a number.
std::vector<std::byte> random_blocks(const GgufBlock& block, size_t blocks, uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(blocks * block.bytes);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.bits() & 0xFF);
  for (size_t i = 0; i < blocks; ++i) {
    std::byte* b = bytes.data() + i * block.bytes;
    if (block.format == Format::kMxfp4) b[0] = static_cast<std::byte>(random.below(255));
    if (block.format == Format::kNvfp4)
      for (int g = 0; g < 4; ++g) b[g] = static_cast<std::byte>(random.below(127));
  }
  return bytes;
}

TEST(GgufBlocks, RepackIsLosslessForEveryType) {
  ThreadPool pool(3);
  for (const GgufBlock& block : gguf_blocks())
    for (const size_t per_row : {1u, 3u}) {
      const int64_t rows = 19, cols = static_cast<int64_t>(per_row * block.elements);
      const std::vector<std::byte> bytes = random_blocks(block, 19 * per_row, block.ggml_type + per_row);
      const PackedWeight w = from_gguf_blocks(block.ggml_type, rows, cols, bytes);
      check_packed(w);
      EXPECT_EQ(w.format, block.format);
      EXPECT_EQ(w.file_bytes(), bytes.size()) << block.name;
      EXPECT_TRUE(same_weight(w, from_gguf_blocks(block.ggml_type, rows, cols, bytes, &pool))) << block.name;
      EXPECT_EQ(to_gguf_blocks(w), bytes) << block.name;
      EXPECT_EQ(to_gguf_blocks(w, &pool), bytes) << block.name;
    }
}

// The canonical decoder and the block decoder are written independently; NaN scales make NaN on both sides.
TEST(GgufBlocks, CanonicalDecodeEqualsBlockDecode) {
  for (const GgufBlock& block : gguf_blocks()) {
    const size_t cols = 2 * block.elements, stride = 2 * block.bytes;
    const std::vector<std::byte> bytes = random_blocks(block, 2 * 40, block.ggml_type);
    const std::vector<float> got = decode(from_gguf_blocks(block.ggml_type, 40, static_cast<int64_t>(cols), bytes));
    std::vector<float> want(cols);
    for (size_t r = 0; r < 40; ++r) {
      decode_gguf_row(block.ggml_type, bytes.data() + r * stride, want);
      for (size_t k = 0; k < cols; ++k) {
        const float a = got[r * cols + k], b = want[k];
        EXPECT_TRUE((std::isnan(a) && std::isnan(b)) || a == b)
            << block.name << " " << r << " " << k << ": " << a << " " << b;
      }
    }
  }
}

TEST(GgufBlocks, QuantisersStayClose) {
  ThreadPool pool(2);
  const std::vector<float> x = gauss(64 * 1024, 3, 0.05f);
  // Upper bounds from the step sizes: (step^2 / 12) over the variance, with room for the clipped tails.
  const std::pair<uint32_t, double> rows[] = {{ggml::kQ8_0, 4e-5},   {ggml::kQ4_0, 9.5e-3},   {ggml::kQ4_1, 7.5e-3},
                                              {ggml::kQ5_0, 2.3e-3}, {ggml::kQ5_1, 1.7e-3},   {ggml::kQ2_K, 0.1},
                                              {ggml::kQ3_K, 0.03},   {ggml::kQ4_K, 7e-3},     {ggml::kQ5_K, 1.7e-3},
                                              {ggml::kQ6_K, 6e-4},   {ggml::kIQ4_NL, 7.5e-3}, {ggml::kMxfp4, 0.0145},
                                              {ggml::kQ1_0, 0.4},    {ggml::kQ2_0, 0.75}};
  for (const auto& [type, bound] : rows) {
    const PackedWeight w = encode_gguf(type, as_matrix(x, 1024), &pool);
    const double error = compare(as_matrix(x, 1024), w).relative_squared_error;
    EXPECT_LT(error, bound) << find_gguf_block(type)->name;
    EXPECT_GT(error, 0.2 * bound) << find_gguf_block(type)->name;
    EXPECT_TRUE(same_weight(w, encode_gguf(type, as_matrix(x, 1024), nullptr))) << find_gguf_block(type)->name;
  }
}

TEST(GgufBlocks, ScalesBeyondF16AreRefused) {
  std::vector<float> x = gauss(256, 4);
  x[7] = 1e8f;
  for (const uint32_t type :
       {ggml::kQ8_0, ggml::kQ4_0, ggml::kQ4_1, ggml::kQ5_0, ggml::kQ5_1, ggml::kQ1_0, ggml::kQ2_0, ggml::kIQ4_NL})
    EXPECT_THAT(message_of([&] { encode_gguf(type, as_matrix(x, 256)); }), HasSubstr("exceeds 65504")) << type;
}

TEST(GgufBlocks, RefusesWhatDoesNotFit) {
  const std::vector<std::byte> bytes(34);
  EXPECT_THAT(message_of([&] { from_gguf_blocks(99, 1, 32, bytes); }), HasSubstr("ggml type 99"));
  EXPECT_THAT(message_of([&] { from_gguf_blocks(ggml::kQ8_0, 1, 31, bytes); }),
              HasSubstr("31 columns: expected a positive multiple of 32"));
  EXPECT_THAT(message_of([&] { from_gguf_blocks(ggml::kQ8_0, 2, 32, bytes); }),
              HasSubstr("expected 2 rows of 34 bytes, found 34 bytes"));
  EXPECT_THROW(from_gguf_blocks(ggml::kQ8_0, -1, 32, bytes), Error);
  EXPECT_THROW(from_gguf_blocks(ggml::kQ8_0, int64_t{1} << 62, int64_t{1} << 40, bytes), Error);
  const std::vector<float> x(48, 1.0f);
  EXPECT_THAT(message_of([&] { to_gguf_blocks(format_info(Format::kNvfp4).encode(as_matrix(x, 48), {})); }),
              HasSubstr("48 columns"));
  EXPECT_THAT(message_of([&] { to_gguf_blocks(format_info(Format::kNF4).encode(as_matrix(x, 48), {})); }),
              HasSubstr("format nf4"));
}

TEST(GgufBlocks, ScaleBytesWithoutAValueAreNamed) {
  std::vector<std::byte> mx(3 * 17), nv(2 * 36);
  mx[2 * 17] = std::byte{0xFF};
  EXPECT_THAT(message_of([&] { from_gguf_blocks(ggml::kMxfp4, 3, 32, mx); }), HasSubstr("row 2, group 0"));
  EXPECT_THAT(message_of([&] { from_gguf_blocks(ggml::kMxfp4, 1, 96, mx); }), HasSubstr("row 0, group 2"));
  nv[36 + 3] = std::byte{0xFF};
  EXPECT_THAT(message_of([&] { from_gguf_blocks(ggml::kNvfp4, 1, 128, nv); }), HasSubstr("row 0, group 7"));
  nv[36 + 3] = std::byte{0x7F};  // ggml reads 0
  EXPECT_EQ(from_gguf_blocks(ggml::kNvfp4, 1, 128, nv).scales.data<uint8_t>()[7], 0);
  PackedWeight w = format_info(Format::kNvfp4).encode(as_matrix(std::vector<float>(64, 1.0f), 64), {});
  w.scales.mutable_data<uint8_t>()[2] = 0x7F;
  EXPECT_THAT(message_of([&] { to_gguf_blocks(w); }), HasSubstr("row 0, group 2: scale code 0x7f"));
}

// compressed-tensors MXFP4 / NVFP4 to GGUF and back: the same codes and scales (specs/00 section 6).
TEST(GgufBlocks, MxAndNvConversionIsLossless) {
  const std::vector<float> x = gauss(16 * 256, 5);
  for (const Format f : {Format::kMxfp4, Format::kNvfp4}) {
    const PackedWeight w = format_info(f).encode(as_matrix(x, 256), {});
    PackedWeight back = from_gguf_blocks(find_gguf_block(f)->ggml_type, 16, 256, to_gguf_blocks(w));
    back.tensor_scale = w.tensor_scale;
    EXPECT_TRUE(same_weight(w, back));
  }
}

}  // namespace
}  // namespace fettle::formats
