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

TEST(Fx3, GaussianWeightsTakeElevenBits) {
  const PackedWeight w = fx3_from_bf16(bf16(64, 4096, gauss_words(64 * 4096, 2)), nullptr);
  // 2.1 to 2.8 % escapes of 8 bits beside 11.
  EXPECT_LT(w.bits_per_weight(), 11.3);
  EXPECT_GT(w.bits_per_weight(), 11.1);
}

TEST(Fx3, RowsKeepTheirOwnWindow) {
  std::vector<uint16_t> words;
  for (int row = 0; row < 4; ++row)
    for (uint16_t u : gauss_words(256, 3)) words.push_back(f32_to_bf16(std::ldexp(bf16_to_f32(u), 20 * row - 30)));
  const PackedWeight w = fx3_from_bf16(bf16(4, 256, words), nullptr);
  EXPECT_EQ(words_of(fx3_to_bf16(w, nullptr)), words);
  const auto* base = w.exponent_bases.data<uint8_t>();
  EXPECT_EQ(base[1] - base[0], 20);
  EXPECT_EQ(base[3] - base[2], 20);
}

TEST(Fx3, DamagedPartsAreFound) {
  const PackedWeight good = fx3_from_bf16(bf16(3, 5000, gauss_words(15000, 4)), nullptr);
  const auto changed = [&](auto change) {
    PackedWeight w = good;
    for (Tensor* t : {&w.codes, &w.exponent_bases, &w.escapes, &w.escape_starts}) *t = t->copy();
    change(w);
    return fx3_problem(w, true);
  };
  EXPECT_EQ(changed([](PackedWeight&) {}), "");
  EXPECT_THAT(changed([](PackedWeight& w) { w.cols = 5056 + 64; }), testing::HasSubstr("codes"));
  EXPECT_THAT(changed([](PackedWeight& w) { part_bytes(w.exponent_bases)[1] = 249; }),
              testing::HasSubstr("row 1: expected at most 248, found 249"));
  EXPECT_THAT(changed([](PackedWeight& w) { ++part_bytes(w.escape_starts)[8]; }), testing::HasSubstr("entry 2"));
  EXPECT_THAT(changed([](PackedWeight& w) { std::memset(part_bytes(w.codes), 255, 24); }),
              testing::HasSubstr("escape_starts: entry 1"));
  EXPECT_THAT(changed([](PackedWeight& w) { w.escapes = w.escapes.slice_rows(0, w.escapes.dim(0) - 1); }),
              testing::HasSubstr("escapes: expected"));
}

}  // namespace
}  // namespace fettle::formats
