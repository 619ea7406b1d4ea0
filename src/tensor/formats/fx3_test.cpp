#include "tensor/formats/fx3.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/random.h"
#include "base/thread_pool.h"
#include "tensor/formats/codecs.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

Tensor bf16(int64_t rows, int64_t cols, const std::vector<uint16_t>& words) {
  Tensor t = Tensor::empty(DType::kBF16, {rows, cols});
  std::copy(words.begin(), words.end(), t.mutable_data<uint16_t>());
  return t;
}

std::vector<uint16_t> words_of(const Tensor& t) { return {t.data<uint16_t>(), t.data<uint16_t>() + t.numel()}; }

std::vector<uint16_t> gauss_words(size_t n, uint64_t seed) {
  Random r(seed);
  std::vector<uint16_t> w(n);
  for (uint16_t& u : w) u = f32_to_bf16(0.02f * r.normal());
  return w;
}

TEST(Fx3, EveryBitPatternSurvives) {
  Random r(1);
  ThreadPool pool(3);
  for (const int64_t cols : {1, 7, 63, 64, 65, 128, 1000, 4096, 4097, 9000}) {
    std::vector<uint16_t> words(static_cast<size_t>(5 * cols));
    for (uint16_t& u : words) u = static_cast<uint16_t>(r.below(65536));
    const Tensor t = bf16(5, cols, words);
    const PackedWeight w = fx3_from_bf16(t, &pool);
    EXPECT_EQ(fx3_problem(w, true), "") << cols;
    EXPECT_EQ(words_of(fx3_to_bf16(w, nullptr)), words) << cols;
    const PackedWeight alone = fx3_from_bf16(t, nullptr);
    EXPECT_EQ(std::memcmp(alone.codes.bytes().data(), w.codes.bytes().data(), w.codes.nbytes()), 0) << "other threads";
  }
}

TEST(Fx3, AllPatternsInOneRow) {
  std::vector<uint16_t> words(65536);
  for (size_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint16_t>(i * 40503u);
  EXPECT_EQ(words_of(fx3_to_bf16(fx3_from_bf16(bf16(1, 65536, words), nullptr), nullptr)), words);
}

TEST(Fx3, GaussianWeightsTakeTwelveBits) {
  const PackedWeight w = fx3_from_bf16(bf16(64, 4096, gauss_words(64 * 4096, 2)), nullptr);
  // 12 bits; four bytes per row and two tables: 0.009; 40 bits for an exception in about 40,000: 0.001.
  EXPECT_GT(w.bits_per_weight(), 12.0);
  EXPECT_LT(w.bits_per_weight(), 12.02);
}

TEST(Fx3, TablesFollowTheRows) {
  std::vector<uint16_t> words;
  for (int row = 0; row < 192; ++row)  // the second half is 2^40 times as large
    for (uint16_t u : gauss_words(256, 3)) words.push_back(f32_to_bf16(std::ldexp(bf16_to_f32(u), row < 96 ? 0 : 40)));
  const PackedWeight w = fx3_from_bf16(bf16(192, 256, words), nullptr);
  EXPECT_EQ(words_of(fx3_to_bf16(w, nullptr)), words);
  const auto* table = w.high_tables.data<uint8_t>();
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(table[16 + i] - table[i], 20) << i;  // 40 exponents are 20 high bytes
}

TEST(Fx3, MoreThanSixteenHighBytesBecomeExceptions) {
  std::vector<uint16_t> words;
  for (uint16_t high = 0; high < 20; ++high) words.insert(words.end(), 64, static_cast<uint16_t>(high << 8 | 0x5A));
  words.resize(words.size() + 64, 0x035A);  // high byte 3 is the most frequent one
  const PackedWeight w = fx3_from_bf16(bf16(1, static_cast<int64_t>(words.size()), words), nullptr);
  EXPECT_EQ(w.high_tables.data<uint8_t>()[0], 3);
  EXPECT_EQ(w.high_tables.data<uint8_t>()[1], 0);  // the lower one of equals
  EXPECT_EQ(w.exception_cols.numel(), 4 * 64);
  EXPECT_EQ(w.exception_cols.data<uint32_t>()[0], 16u * 64);
  EXPECT_EQ(w.exception_highs.data<uint8_t>()[0], 16);
  EXPECT_EQ(words_of(fx3_to_bf16(w, nullptr)), words);
}

TEST(Fx3, DamagedPartsAreFound) {
  std::vector<uint16_t> words = gauss_words(15000, 4);
  for (size_t i = 0; i < 8; ++i)  // one weight each of large negative numbers: fewer table entries are left
    words[(i < 5 ? 100 : 12000) + i] = static_cast<uint16_t>(0xF000 + 0x100 * i);
  const PackedWeight good = fx3_from_bf16(bf16(3, 5000, words), nullptr);
  const auto changed = [&](auto change) {
    PackedWeight w = good;
    for (Tensor* t : {&w.codes, &w.high_tables, &w.exception_starts, &w.exception_cols, &w.exception_highs})
      *t = t->copy();
    change(w);
    return fx3_problem(w, true);
  };
  const auto starts = [](PackedWeight& w) { return w.exception_starts.mutable_data<uint32_t>(); };
  const auto cols = [](PackedWeight& w) { return w.exception_cols.mutable_data<uint32_t>(); };
  const auto count = static_cast<uint32_t>(good.exception_cols.numel());
  ASSERT_GE(fx3_exceptions(good, 0).cols.size(), 2u);
  ASSERT_GE(fx3_exceptions(good, 2).cols.size(), 1u);
  EXPECT_EQ(changed([](PackedWeight&) {}), "");
  EXPECT_THAT(changed([](PackedWeight& w) { w.cols = 5056 + 64; }), testing::HasSubstr("codes"));
  EXPECT_THAT(changed([](PackedWeight& w) { w.high_tables = w.high_tables.slice_rows(0, 0); }),
              testing::HasSubstr("high_tables"));
  EXPECT_THAT(changed([&](PackedWeight& w) { ++starts(w)[0]; }), testing::HasSubstr("expected 0 first, found 1"));
  EXPECT_THAT(changed([&](PackedWeight& w) { starts(w)[1] = count + 1; }), testing::HasSubstr("entry 1"));
  EXPECT_THAT(changed([&](PackedWeight& w) { --starts(w)[3]; }), testing::HasSubstr("last"));
  EXPECT_THAT(changed([&](PackedWeight& w) { cols(w)[count - 1] = 5000; }), testing::HasSubstr("row 2"));
  EXPECT_THAT(changed([&](PackedWeight& w) { cols(w)[1] = cols(w)[0]; }), testing::HasSubstr("row 0"));
  EXPECT_THAT(changed([&](PackedWeight& w) { w.exception_highs = w.exception_highs.slice_rows(0, count - 1); }),
              testing::HasSubstr("exception_highs"));
}

}  // namespace
}  // namespace fettle::formats
