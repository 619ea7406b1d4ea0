// Vectors of DFloat11 (tests/data/vectors/dfloat11/README.md), made with upstream's encoder: all byte-exact.
#include <algorithm>

#include "base/thread_pool.h"
#include "tensor/df11/unit.h"
#include "vector_files.h"

namespace fettle {
namespace {

using golden::for_each_file;
using golden::stems;
using golden::values;
using io::SafetensorsFile;

df11::Unit stored_unit(const SafetensorsFile& f) {
  return {values<uint8_t>(f, "luts"), values<uint8_t>(f, "encoded_exponent"), values<uint8_t>(f, "sign_mantissa"),
          values<uint8_t>(f, "output_positions"), values<uint8_t>(f, "gaps")};
}

TEST(DFloat11Golden, EncoderIsByteIdentical) {
  size_t found = 0;
  for_each_file("dfloat11", "", [&](const SafetensorsFile& f) {
    if (!f.find("code_table")) return;
    ++found;
    const Tensor weight = f.tensor("weight");
    const std::span<const std::byte> matrix = weight.bytes();
    const df11::CodeBook book = df11::upstream_code(df11::exponent_histogram({&matrix, 1}, nullptr));
    for (const auto table = values<int64_t>(f, "code_table"); const df11::Code& c : book.codes) {
      bool same = false;
      for (size_t i = 0; i < table.size(); i += 3)
        same |= table[i] == c.symbol && table[i + 1] == c.length && table[i + 2] == c.bits;
      EXPECT_TRUE(same) << "symbol " << c.symbol << ": length " << int{c.length} << ", code " << c.bits;
      EXPECT_EQ(table.size(), 3 * book.codes.size());
    }
    const df11::Unit want = stored_unit(f), got = df11::encode_stream({&matrix, 1}, book);
    EXPECT_EQ(got.luts, want.luts);
    EXPECT_EQ(got.encoded_exponent, want.encoded_exponent);
    EXPECT_EQ(got.sign_mantissa, want.sign_mantissa);
    EXPECT_EQ(got.output_positions, want.output_positions);
    EXPECT_EQ(got.gaps, want.gaps);
  });
  EXPECT_GT(found, 0u);
}

TEST(DFloat11Golden, DecoderReturnsTheWeights) {
  size_t found = 0;
  ThreadPool pool(2);
  for_each_file("dfloat11", "", [&](const SafetensorsFile& f) {
    if (!f.find("code_table")) return;
    ++found;
    const df11::Unit unit = stored_unit(f);
    const df11::Decoder decoder(unit.view(), f.path(), "unit");
    std::vector<uint16_t> got(decoder.size());
    decoder.decode(0, got.size(), got.data(), &pool);
    EXPECT_EQ(got, values<uint16_t>(f, "weight"));
  });
  EXPECT_GT(found, 0u);
}

TEST(DFloat11Golden, WhatTheFormatCannotHoldIsRefused) {
  for_each_file("dfloat11", "not_representable", [&](const SafetensorsFile& f) {
    const Tensor weight = f.tensor("weight");
    const std::span<const std::byte> matrix = weight.bytes();
    for (const df11::CodeMode mode : {df11::CodeMode::kUpstream, df11::CodeMode::kFast})
      EXPECT_NE(df11::encode_unit({&matrix, 1}, mode, nullptr).refusal, "");
  });
}

void check_histogram(const SafetensorsFile& f, const std::string& name) {
  const auto symbols = values<int64_t>(f, name + ".symbols"), counts = values<int64_t>(f, name + ".counts");
  const auto lengths = values<int64_t>(f, name + ".lengths"), codes = values<int64_t>(f, name + ".codes");
  const auto end = values<int64_t>(f, name + ".eof");
  auto flattened = values<int64_t>(f, name + ".flattened");
  df11::Histogram histogram{};
  for (size_t i = 0; i < symbols.size(); ++i)
    histogram[static_cast<size_t>(symbols[i])] = static_cast<uint64_t>(counts[i]);
  const df11::CodeBook book = df11::upstream_code(histogram);
  std::sort(flattened.begin(), flattened.end());
  EXPECT_EQ(std::vector<int64_t>(book.flattened.begin(), book.flattened.end()), flattened);
  for (size_t i = 0; i < symbols.size(); ++i) {
    const df11::Code* c = book.find(static_cast<int>(symbols[i]));
    ASSERT_NE(c, nullptr);
    EXPECT_EQ(c->length, lengths[i]) << "symbol " << symbols[i];
    EXPECT_EQ(c->bits, codes[i]) << "symbol " << symbols[i];
  }
  EXPECT_EQ(book.find(df11::kEnd)->length, end[0]);
  EXPECT_EQ(book.find(df11::kEnd)->bits, end[1]);
}

TEST(DFloat11Golden, CodesOfHistograms) {
  for_each_file("dfloat11", "histograms", [](const SafetensorsFile& f) {
    for (const std::string& name : stems(f, ".counts")) {
      SCOPED_TRACE(name);
      check_histogram(f, name);
    }
  });
}

}  // namespace
}  // namespace fettle
