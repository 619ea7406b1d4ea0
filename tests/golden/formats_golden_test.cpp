// Vectors of the number formats (tests/data/vectors/00-formats/README.md): scalar codecs, GGUF blocks, bit packing,
// quantisers. Every file whose name starts with the vector's name is run, here and in $FETTLE_VECTORS_DIR.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <regex>
#include <set>

#include "tensor/formats/codecs.h"
#include "tensor/formats/gguf_blocks.h"
#include "tensor/formats/int.h"
#include "tensor/formats/pack.h"
#include "tensor/metrics.h"
#include "tensor/scale_check.h"
#include "vector_files.h"

namespace fettle {
namespace {

using golden::SafetensorsFile;
using golden::values;

void for_each_file(const std::string& prefix, const std::function<void(const SafetensorsFile&)>& check) {
  golden::for_each_file("00-formats", prefix, check);
}

// Calls check(stem) for every tensor called <stem><suffix>.
void for_each_stem(const SafetensorsFile& f, const std::string& suffix,
                   const std::function<void(const std::string&)>& check) {
  size_t found = 0;
  for (const auto& entry : f.entries()) {
    const std::string name(entry.name);
    if (!name.ends_with(suffix)) continue;
    const std::string stem = name.substr(0, name.size() - suffix.size());
    SCOPED_TRACE(stem);
    check(stem);
    ++found;
  }
  EXPECT_GT(found, 0u) << "no tensor ends in " << suffix;
}

MatView<const float> matrix(const std::vector<float>& x, const Tensor& shape) {
  return {x.data(), static_cast<size_t>(shape.dim(0)), static_cast<size_t>(shape.dim(1))};
}

// Equal values: NaN equals NaN, and zero has one value (files and tables may drop its sign).
bool same_value(float a, float b) { return (std::isnan(a) && std::isnan(b)) || a == b; }

bool all_zero(std::span<const float> x) {
  return std::all_of(x.begin(), x.end(), [](float v) { return v == 0; });
}

void expect_same(std::span<const float> got, std::span<const float> want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(same_value(got[i], want[i])) << i << ": " << got[i] << " vs " << want[i];
}

void expect_near(std::span<const float> got, std::span<const float> want, double relative) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], relative * std::fabs(want[i])) << i;
}

// Codes may differ only where x lies on a rounding boundary: both values are then equally far from it.
void expect_same_or_tied(std::span<const float> x, std::span<const float> got, std::span<const float> want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::fabs(got[i] - want[i]) <= 1e-6 * std::fabs(want[i])) continue;
    const double to_got = std::fabs(static_cast<double>(x[i]) - got[i]),
                 to_want = std::fabs(static_cast<double>(x[i]) - want[i]);
    ASSERT_NEAR(to_got, to_want, 2e-6 * std::fabs(x[i]))
        << i << ": x " << x[i] << " got " << got[i] << " want " << want[i];
  }
}

TEST(ScalarCodecs, MatchBitForBit) {
  for_each_file("scalar_codecs", [](const SafetensorsFile& f) {
    using formats::Overflow;
    const auto x = values<float>(f, "x");
    const auto sat = values<uint8_t>(f, "e4m3_sat"), nonsat = values<uint8_t>(f, "e4m3_nonsat");
    const auto e5m2 = values<uint8_t>(f, "e5m2_nonsat"), e2m1 = values<uint8_t>(f, "e2m1");
    const auto bf16 = values<int32_t>(f, "bf16_bits"), f16 = values<int32_t>(f, "f16_bits");
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) {
        EXPECT_EQ(formats::f32_to_e4m3(x[i]) & 0x7F, 0x7F);
        EXPECT_EQ(formats::f32_to_e4m3(x[i], Overflow::kSpecial) & 0x7F, 0x7F);
        EXPECT_TRUE(std::isnan(formats::e5m2_to_f32(formats::f32_to_e5m2(x[i], Overflow::kSpecial))));
        EXPECT_EQ(formats::f32_to_e2m1(x[i]) & 7, 7);
        EXPECT_TRUE(std::isnan(formats::bf16_to_f32(formats::f32_to_bf16(x[i]))));
        EXPECT_TRUE(std::isnan(formats::f16_to_f32(formats::f32_to_f16(x[i]))));
        continue;
      }
      EXPECT_EQ(formats::f32_to_e4m3(x[i]), sat[i]) << x[i];
      EXPECT_EQ(formats::f32_to_e4m3(x[i], Overflow::kSpecial), nonsat[i]) << x[i];
      EXPECT_EQ(formats::f32_to_e5m2(x[i], Overflow::kSpecial), e5m2[i]) << x[i];
      EXPECT_EQ(formats::f32_to_e2m1(x[i]), e2m1[i]) << x[i];
      EXPECT_EQ(formats::f32_to_bf16(x[i]), bf16[i] & 0xFFFF) << x[i];
      EXPECT_EQ(formats::f32_to_f16(x[i]), f16[i] & 0xFFFF) << x[i];
    }
    const auto check_table = [&](const std::string& name, const auto& decode) {
      const auto want = values<float>(f, name);
      for (size_t c = 0; c < want.size(); ++c)
        EXPECT_TRUE(same_value(decode(static_cast<uint8_t>(c)), want[c])) << name << c;
    };
    check_table("table_e4m3", formats::e4m3_to_f32);
    check_table("table_e5m2", formats::e5m2_to_f32);
    check_table("table_e2m1", formats::e2m1_to_f32);
    check_table("table_e8m0", formats::e8m0_to_f32);
  });
}

const formats::GgufBlock& block_named(const std::string& name) {
  for (const formats::GgufBlock& b : formats::gguf_blocks())
    if (b.name == name) return b;
  throw std::runtime_error("vector of an unknown type: " + name);
}

bool has_undefined_scale(const formats::GgufBlock& block, std::span<const std::byte> row) {
  for (size_t i = 0; i < row.size(); i += block.bytes) {
    if (block.format == Format::kMxfp4 && row[i] == std::byte{0xFF}) return true;
    if (block.format != Format::kNvfp4) continue;
    for (size_t g = 0; g < 4; ++g)
      if (row[i + g] == std::byte{0xFF}) return true;
  }
  return false;
}

// The block decoder, and the canonical weight wherever every scale has a value.
void check_decode(const SafetensorsFile& f, const std::string& type) {
  const formats::GgufBlock& block = block_named(type);
  const Tensor bytes = f.tensor(type + ".bytes");
  const auto want = values<float>(f, type + ".dequant");
  const auto rows = static_cast<size_t>(bytes.dim(0)), stride = static_cast<size_t>(bytes.dim(1)),
             cols = want.size() / rows;
  std::vector<float> got(cols);
  for (size_t r = 0; r < rows; ++r) {
    SCOPED_TRACE(r);
    const auto row = bytes.bytes().subspan(r * stride, stride);
    const std::span<const float> expected(want.data() + r * cols, cols);
    formats::decode_gguf_row(block.ggml_type, row.data(), got);
    expect_same(got, expected);
    if (has_undefined_scale(block, row)) {
      EXPECT_THROW(formats::from_gguf_blocks(block.ggml_type, 1, static_cast<int64_t>(cols), row), Error);
    } else {
      expect_same(decode(formats::from_gguf_blocks(block.ggml_type, 1, static_cast<int64_t>(cols), row)), expected);
    }
  }
}

TEST(GgufBlocks, DecodeIsBitExact) {
  for (const char* file : {"gguf_decode_random", "gguf_blocks"})
    for_each_file(file, [](const SafetensorsFile& f) {
      for_each_stem(f, ".bytes", [&](const std::string& type) { check_decode(f, type); });
    });
}

TEST(GgufBlocks, RandomBlocksRepackLosslessly) {
  for_each_file("gguf_decode_random", [](const SafetensorsFile& f) {
    for_each_stem(f, ".bytes", [&](const std::string& type) {
      const formats::GgufBlock& block = block_named(type);
      if (block.format == Format::kNvfp4) return;  // ignored sign bits are not kept
      const Tensor bytes = f.tensor(type + ".bytes");
      const int64_t cols = f.tensor(type + ".dequant").dim(1);
      const auto back =
          formats::to_gguf_blocks(formats::from_gguf_blocks(block.ggml_type, bytes.dim(0), cols, bytes.bytes()));
      EXPECT_EQ(std::memcmp(back.data(), bytes.bytes().data(), back.size()), 0);
    });
  });
}

// Types whose bytes must equal upstream's. The others may spend up to 1 % more squared error.
const std::set<std::string> kExactTypes = {"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4", "nvfp4", "q1_0", "q2_0"};

TEST(GgufBlocks, QuantisersMatchUpstream) {
  for_each_file("gguf_blocks", [](const SafetensorsFile& f) {
    const Tensor shape = f.tensor("x");
    const auto x = values<float>(f, "x");
    const auto rows = static_cast<size_t>(shape.dim(0)), cols = static_cast<size_t>(shape.dim(1));
    for_each_stem(f, ".bytes", [&](const std::string& type) {
      const formats::GgufBlock& block = block_named(type);
      const Tensor bytes = f.tensor(type + ".bytes");
      const auto stride = static_cast<size_t>(bytes.dim(1));
      const auto dequant = values<float>(f, type + ".dequant");
      const std::vector<std::byte> got = formats::quantise_gguf(block.ggml_type, matrix(x, shape));
      ASSERT_EQ(got.size(), bytes.nbytes());
      std::vector<float> ours(cols);
      for (size_t r = 0; r < rows; ++r) {
        SCOPED_TRACE(r);
        const std::span<const float> row(x.data() + r * cols, cols), theirs(dequant.data() + r * cols, cols);
        formats::decode_gguf_row(block.ggml_type, got.data() + r * stride, ours);
        const double upstream = compare(row, theirs).squared_error;
        EXPECT_LE(compare(row, ours).squared_error, 1.01 * upstream + std::numeric_limits<float>::min());
        if (!kExactTypes.contains(type) || all_zero(row)) continue;
        EXPECT_EQ(std::memcmp(got.data() + r * stride, bytes.bytes().data() + r * stride, stride), 0) << "bytes differ";
      }
    });
  });
}

TEST(Packing, Int32BothDirections) {
  for_each_file("ct_pack_int32", [](const SafetensorsFile& f) {
    for_each_stem(f, ".q", [&](const std::string& stem) {
      const int bits = std::stoi(stem.substr(1));
      const Tensor q = f.tensor(stem + ".q");
      const auto rows = static_cast<size_t>(q.dim(0)), cols = static_cast<size_t>(q.dim(1));
      std::vector<uint8_t> codes(rows * cols);
      for (size_t i = 0; i < codes.size(); ++i)
        codes[i] = static_cast<uint8_t>(q.data<int8_t>()[i] + (1 << (bits - 1)));
      const auto along = values<int32_t>(f, stem + ".packed"), down = values<int32_t>(f, stem + ".packed_dim0");
      EXPECT_EQ(formats::pack_int32(codes, rows, cols, bits), along);
      EXPECT_EQ(formats::pack_int32_rows(codes, rows, cols, bits), down);
      EXPECT_EQ(formats::unpack_int32(std::as_bytes(std::span(along)), rows, cols, bits), codes);
      EXPECT_EQ(formats::unpack_int32_rows(std::as_bytes(std::span(down)), rows, cols, bits), codes);
    });
  });
}

TEST(Packing, Fp4BothDirections) {
  for_each_file("ct_pack_fp4", [](const SafetensorsFile& f) {
    const auto codes = values<uint8_t>(f, "codes"), packed = values<uint8_t>(f, "packed");
    const auto x = values<float>(f, "values");
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(formats::f32_to_e2m1(x[i]), codes[i]) << x[i];
      EXPECT_EQ(formats::f32_bits(formats::e2m1_to_f32(codes[i])), formats::f32_bits(x[i])) << x[i];
    }
    std::vector<uint8_t> pairs(packed.size()), back(codes.size());
    formats::pack_nibbles(codes, pairs.data());
    EXPECT_EQ(pairs, packed);
    formats::unpack_nibbles(packed.data(), back);
    EXPECT_EQ(back, codes);
  });
}

// Scales agree where the group holds anything; an all-zero group may have any finite scale.
void expect_scales(std::span<const float> x, size_t group, std::span<const float> got, std::span<const float> want,
                   double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t g = 0; g < got.size(); ++g) {
    if (all_zero(x.subspan(g * group, group))) {
      EXPECT_TRUE(std::isfinite(got[g])) << g;
    } else {
      EXPECT_NEAR(got[g], want[g], tolerance * std::fabs(want[g])) << g;
    }
  }
}

TEST(Quantisers, IntegerGroups) {
  for_each_file("quantisers", [](const SafetensorsFile& f) {
    const auto w = values<float>(f, "w");
    const MatView<const float> view = matrix(w, f.tensor("w"));
    for_each_stem(f, ".q", [&](const std::string& stem) {
      std::smatch m;
      ASSERT_TRUE(std::regex_match(stem, m, std::regex(R"(int(\d)_g(\d+)_(sym|asym))")));
      const FormatOptions o{.group_size = std::stoi(m[2]), .symmetric = m[3] == "sym", .scale_dtype = DType::kF32};
      const PackedWeight p = formats::encode_int(view, std::stoi(m[1]), o, nullptr);
      check_packed(p);
      expect_scales(w, static_cast<size_t>(p.group_size), p.scales.to_f32(), values<float>(f, stem + ".scale"), 1e-6);
      expect_same_or_tied(w, decode(p), values<float>(f, stem + ".dequant"));
      if (o.symmetric) return;
      const auto step = static_cast<size_t>(p.group_size);
      const auto zero_points = values<int8_t>(f, stem + ".zero_point");
      for (size_t i = 0; i < zero_points.size(); ++i)
        if (!all_zero(std::span(w).subspan(i * step, step))) {
          EXPECT_EQ(p.zero_points.data<uint8_t>()[i] - (1 << (std::stoi(m[1]) - 1)), zero_points[i]) << i;
        }
    });
  });
}

struct FloatGroups {
  Format format;
  const char *stem, *scales;
  DType scale_type;
};

TEST(Quantisers, FloatGroups) {
  for_each_file("quantisers", [](const SafetensorsFile& f) {
    const auto w = values<float>(f, "w");
    for (const FloatGroups& v : {FloatGroups{Format::kMxfp4, "mxfp4_even", ".scale_e8m0", DType::kF8E8M0},
                                 FloatGroups{Format::kMxfp8, "mxfp8_e4m3", ".scale_e8m0", DType::kF8E8M0},
                                 FloatGroups{Format::kNvfp4, "nvfp4", ".scale_e4m3", DType::kF8E4M3}}) {
      SCOPED_TRACE(v.stem);
      const std::string stem = v.stem;
      const PackedWeight p = format_info(v.format).encode(matrix(w, f.tensor("w")), {});
      const Tensor scales = f.tensor(stem + v.scales);
      const auto want_scales = Tensor::borrow(v.scale_type, scales.shape(), scales.bytes(), nullptr).to_f32();
      expect_scales(w, static_cast<size_t>(p.group_size), p.scales.to_f32(), want_scales, 0);
      if (v.format == Format::kNvfp4) {
        EXPECT_NEAR(1 / p.tensor_scale, values<float>(f, "nvfp4.global_scale")[0], 1e-6 / p.tensor_scale);
      }
      expect_same_or_tied(w, decode(p), values<float>(f, stem + ".dequant"));
      if (v.format == Format::kMxfp8) continue;
      // The reference's own codes, read through our layout.
      PackedWeight theirs = p;
      theirs.codes = f.tensor(stem + ".packed");
      theirs.scales = Tensor::borrow(v.scale_type, scales.shape(), scales.bytes(), nullptr);
      expect_near(decode(theirs), values<float>(f, stem + ".dequant"), 1e-6);
    }
  });
}

TEST(Quantisers, NormalFloat) {
  for_each_file("quantisers", [](const SafetensorsFile& f) {
    EXPECT_TRUE(std::ranges::equal(values<float>(f, "nf4.table"), formats::kNF4Table));
    const auto w = values<float>(f, "w");
    const PackedWeight p = format_info(Format::kNF4).encode(matrix(w, f.tensor("w")), {.scale_dtype = DType::kF32});
    expect_scales(w, 64, p.scales.to_f32(), values<float>(f, "nf4_b64.absmax"), 0);
    expect_same_or_tied(w, decode(p), values<float>(f, "nf4_b64.dequant"));
    // bitsandbytes keeps the first element in the high nibble.
    PackedWeight theirs = p;
    auto packed = values<uint8_t>(f, "nf4_b64.packed_hi_first");
    for (uint8_t& b : packed) b = static_cast<uint8_t>((b << 4) | (b >> 4));
    theirs.codes = Tensor::from<uint8_t>(packed, p.codes.shape());
    theirs.scales = Tensor::from<float>(values<float>(f, "nf4_b64.absmax"), p.scales.shape());
    expect_near(decode(theirs), values<float>(f, "nf4_b64.dequant"), 1e-6);
  });
}

// FP-Quant stores NaN as the scale of an all-zero group: found, and repaired to zeros, never decoded to NaN.
TEST(FpQuant, ZeroGroupTrap) {
  for_each_file("fpquant_zero_group_trap", [](const SafetensorsFile& f) {
    const auto w = values<float>(f, "w");
    PackedWeight p;
    p.format = Format::kNvfp4;
    p.rows = f.tensor("w").dim(0);
    p.cols = f.tensor("w").dim(1);
    p.group_size = 16;
    p.codes = f.tensor("exported_packed").copy();
    const Tensor codes = f.tensor("exported_scale_code");
    p.scales = Tensor::borrow(DType::kF8E4M3, codes.shape(), codes.bytes(), nullptr);
    p.tensor_scale = 1 / values<float>(f, "global_scale")[0];
    check_packed(p);
    ASSERT_TRUE(find_bad_scale(p).has_value());
    EXPECT_GE(repair_zero_groups(p), 1);
    EXPECT_FALSE(find_bad_scale(p).has_value());
    const std::vector<float> got = decode(p);
    for (size_t i = 0; i < w.size(); ++i) {
      EXPECT_TRUE(std::isfinite(got[i])) << i;
      if (w[i] == 0) {
        EXPECT_EQ(got[i], 0.0f) << i;
      }
    }
    // Our writer gives the same group a finite scale.
    EXPECT_FALSE(find_bad_scale(format_info(Format::kNvfp4).encode(matrix(w, f.tensor("w")), {})).has_value());
  });
}

}  // namespace
}  // namespace fettle
