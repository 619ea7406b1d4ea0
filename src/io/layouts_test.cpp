#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "base/random.h"
#include "io/linear_loader.h"
#include "io/model_files.h"
#include "io/test_util.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/pack.h"

namespace fettle::io {
namespace {

using ::testing::HasSubstr;

void expect_near(const std::vector<float>& got, const std::vector<float>& want, double relative) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], relative * std::fabs(want[i])) << "element " << i;
}

struct Checkpoint {
  ModelFiles files;
  TensorSource source;
  QuantConfig config;
};

Checkpoint open_checkpoint(const std::string& dir) {
  const ModelFiles files = resolve_model(dir);
  return {files, TensorSource::open(files), read_quant_config(files, read_config(files))};
}

TEST(LayoutsGolden, CompressedTensorsLoadToExpected) {
  int matrices = 0;
  for (const std::string& dir : format_vectors("ct_tiny_")) {
    const Checkpoint c = open_checkpoint(dir);
    const SafetensorsFile expected = SafetensorsFile::open(path_join(dir, "expected.safetensors"));
    for (const TensorEntry& e : expected.entries()) {
      SCOPED_TRACE(dir + " " + e.name);
      const std::string module = e.name.substr(0, e.name.size() - std::string(".weight").size());
      const PackedWeight w = load_linear(c.source, c.config, module, e.shape[0], e.shape[1]);
      EXPECT_NE(w.format, Format::kF32);
      expect_near(decode(w), expected.tensor(e.name).to_f32(), 1e-6);
      ++matrices;
    }
  }
  EXPECT_GT(matrices, 0);
}

TEST(LayoutsGolden, FpQuantStaysPackedAndRotated) {
  int matrices = 0;
  for (const std::string& dir : format_vectors("fpquant_tiny_")) {
    const Checkpoint c = open_checkpoint(dir);
    const SafetensorsFile expected = SafetensorsFile::open(path_join(dir, "expected.safetensors"));
    for (const TensorEntry& e : expected.entries()) {
      const std::string tail = ".weight_rotated";
      if (!e.name.ends_with(tail)) continue;
      SCOPED_TRACE(dir + " " + e.name);
      const std::string module = e.name.substr(0, e.name.size() - tail.size());
      const PackedWeight w = load_linear(c.source, c.config, module, e.shape[0], e.shape[1]);
      EXPECT_EQ(w.input.hadamard, 32);
      EXPECT_TRUE(w.format == Format::kNvfp4 || w.format == Format::kMxfp4);
      PackedWeight stored = w;
      stored.input = {};
      expect_near(decode(stored), expected.tensor(e.name).to_f32(), 1e-6);
      const std::vector<float> want = expected.tensor(module + ".weight_unrotated").to_f32(), got = decode(w);
      // Sums of 32 products: rounding is relative to the block, not to the element.
      float largest = 0;
      for (const float x : want) largest = std::max(largest, std::fabs(x));
      for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 32 * 6e-8 * largest);
      ++matrices;
    }
  }
  EXPECT_GT(matrices, 0);
}

// A model folder made of tensors and one quantization_config.
class Layouts : public ::testing::Test {
 protected:
  using Named = std::vector<std::pair<std::string, Tensor>>;
  void write(const std::string& section, const Named& tensors) {
    dir_.write("config.json", section.empty() ? "{}" : "{\"quantization_config\":" + section + "}");
    write_safetensors(dir_.file("model.safetensors"), tensors);
    c_ = std::make_unique<Checkpoint>(open_checkpoint(dir_.path()));
  }
  PackedWeight load(int64_t rows, int64_t cols) const { return load_linear(c_->source, c_->config, "m", rows, cols); }
  std::string refusal(int64_t rows, int64_t cols) const {
    return input_error([&] { load(rows, cols); });
  }
  uint32_t next(uint32_t below) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33) % below;
  }
  std::vector<uint8_t> codes(size_t n, uint32_t below) {
    std::vector<uint8_t> out(n);
    for (uint8_t& c : out) c = static_cast<uint8_t>(next(below));
    return out;
  }
  // Finite positive F16 scales near 1.
  Tensor f16_scales(int64_t rows, int64_t cols) {
    Tensor t = Tensor::empty(DType::kF16, {rows, cols});
    for (int64_t i = 0; i < rows * cols; ++i)
      t.mutable_data<uint16_t>()[i] = static_cast<uint16_t>(0x3800 + next(0x800));
    return t;
  }
  static Tensor f32(const std::vector<float>& v, std::vector<int64_t> shape) {
    return Tensor::from<float>(v, std::move(shape));
  }
  static Tensor words(const std::vector<int32_t>& v, std::vector<int64_t> shape) {
    return Tensor::from<int32_t>(v, std::move(shape));
  }
  static Tensor of_type(DType dtype, const std::vector<uint8_t>& bytes, std::vector<int64_t> shape) {
    Tensor t = Tensor::empty(dtype, std::move(shape));
    FETTLE_CHECK_EQ(t.nbytes(), bytes.size());
    std::copy(bytes.begin(), bytes.end(), t.mutable_data<uint8_t>());
    return t;
  }

  TempDir dir_;
  std::unique_ptr<Checkpoint> c_;
  uint64_t state_ = 42;
};

std::string ct_section(const std::string& format, const std::string& weights) {
  return R"({"quant_method":"compressed-tensors","format":")" + format +
         R"(","ignore":["lm_head"],"config_groups":{"g":{"targets":["Linear"],"weights":)" + weights + "}}}";
}

TEST_F(Layouts, DenseWhenNotQuantised) {
  write("", {{"m.weight", f32({1, 2, 3, 4, 5, 6}, {2, 3})}});
  EXPECT_EQ(decode(load(2, 3)), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(refusal(3, 2), HasSubstr("tensor \"m.weight\": expected BF16|F16|F32 [3, 2], found F32 [2, 3]"));
  EXPECT_EQ(linear_tensor_names(c_->source, "m"), std::vector<std::string>{"m.weight"});
}

TEST_F(Layouts, PackQuantizedOfEveryWidth) {
  const size_t n = 5, k = 77;
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      SCOPED_TRACE(fmt::format("{} bits, {}", bits, symmetric));
      const auto q = codes(n * k, 1u << bits), z = codes(n * 4, 1u << bits);
      std::vector<float> s(n * 4);
      for (float& x : s) x = 0.25f + static_cast<float>(next(100)) / 64;
      std::vector<std::pair<std::string, Tensor>> tensors = {
          {"m.weight_packed",
           words(formats::pack_int32(q, n, k, bits), {5, static_cast<int64_t>(formats::packed_words(k, bits))})},
          {"m.weight_scale", f32(s, {5, 4})},
          {"m.weight_shape", Tensor::from<int64_t>(std::vector<int64_t>{5, 77}, {2})}};
      if (!symmetric)
        tensors.emplace_back("m.weight_zero_point", words(formats::pack_int32_rows(z, n, 4, bits),
                                                          {static_cast<int64_t>(formats::packed_words(n, bits)), 4}));
      write(
          ct_section("pack-quantized",
                     fmt::format(R"({{"num_bits":{},"type":"int","symmetric":{},"strategy":"group","group_size":20}})",
                                 bits, symmetric)),
          tensors);
      std::vector<float> want(n * k);
      for (size_t i = 0; i < want.size(); ++i) {
        const size_t g = i / k * 4 + i % k / 20;
        want[i] = static_cast<float>(q[i] - (symmetric ? 1 << (bits - 1) : z[g])) * s[g];
      }
      EXPECT_EQ(decode(load(5, 77)), want);
    }
  }
}

TEST_F(Layouts, PackQuantizedBorrowsAlignedRows) {
  const auto q = codes(2 * 64, 16);
  write(
      ct_section("pack-quantized", R"({"num_bits":4,"type":"int","strategy":"channel"})"),
      {{"m.weight_packed", words(formats::pack_int32(q, 2, 64, 4), {2, 8})}, {"m.weight_scale", f32({1, 2}, {2, 1})}});
  const PackedWeight w = load(2, 64);
  EXPECT_FALSE(w.codes.owned());
  EXPECT_EQ(w.group_size, 64);
  EXPECT_EQ(decode(w)[64 + 5], 2.0f * static_cast<float>(q[64 + 5] - 8));
}

TEST_F(Layouts, ActivationOrderedGroupsBecomeDense) {
  const auto q = codes(2 * 8, 16);
  const std::vector<int32_t> group = {1, 0, 0, 1, 1, 0, 1, 0};
  write(ct_section("pack-quantized",
                   R"({"num_bits":4,"type":"int","strategy":"group","group_size":4,"actorder":"group"})"),
        {{"m.weight_packed", words(formats::pack_int32(q, 2, 8, 4), {2, 1})},
         {"m.weight_scale", f32({1, 2, 3, 4}, {2, 2})},
         {"m.weight_g_idx", words(group, {8})}});
  const PackedWeight w = load(2, 8);
  EXPECT_EQ(w.format, Format::kF32);
  EXPECT_EQ(decode(w)[8 + 3], static_cast<float>(q[8 + 3] - 8) * 4.0f);
  write(ct_section("pack-quantized",
                   R"({"num_bits":4,"type":"int","strategy":"group","group_size":4,"actorder":"group"})"),
        {{"m.weight_packed", words(formats::pack_int32(q, 2, 8, 4), {2, 1})},
         {"m.weight_scale", f32({1, 2, 3, 4}, {2, 2})},
         {"m.weight_g_idx", words({0, 0, 0, 2, 1, 1, 1, 1}, {8})}});
  EXPECT_THAT(refusal(2, 8), HasSubstr("tensor \"m.weight_g_idx\": column 3: expected a group in [0, 2), found 2"));
}

TEST_F(Layouts, IntQuantizedWithAndWithoutZeroPoints) {
  const std::vector<uint8_t> raw = {0x80, 0xFF, 0x00, 0x7F, 0x05, 0xFB};
  write(ct_section("int-quantized", R"({"num_bits":8,"type":"int","strategy":"channel"})"),
        {{"m.weight", of_type(DType::kI8, raw, {2, 3})}, {"m.weight_scale", f32({2, 0.5f}, {2, 1})}});
  EXPECT_EQ(decode(load(2, 3)), (std::vector<float>{-256, -2, 0, 63.5f, 2.5f, -2.5f}));
  write(ct_section("int-quantized", R"({"num_bits":8,"type":"int","strategy":"channel","symmetric":false})"),
        {{"m.weight", of_type(DType::kI8, raw, {2, 3})},
         {"m.weight_scale", f32({2, 0.5f}, {2, 1})},
         {"m.weight_zero_point", of_type(DType::kI8, {0xFF, 0x01}, {2, 1})}});
  EXPECT_EQ(decode(load(2, 3)), (std::vector<float>{-254, 0, 2, 63, 2, -3}));
  write(ct_section("int-quantized", R"({"num_bits":8,"type":"int","strategy":"tensor"})"),
        {{"m.weight", of_type(DType::kI8, raw, {2, 3})}, {"m.weight_scale", f32({2}, {1})}});
  EXPECT_EQ(decode(load(2, 3))[3], 254.0f);
}

TEST_F(Layouts, BlockScalesAreRepeatedPerRow) {
  const auto raw = codes(5 * 6, 100);
  const std::vector<float> scale = {1, 2, 3, 4, 5, 6};  // blocks of 2 x 4: [3, 2]
  write(ct_section("float-quantized", R"({"num_bits":8,"type":"float","strategy":"block","block_structure":[2,4]})"),
        {{"m.weight", of_type(DType::kF8E4M3, raw, {5, 6})}, {"m.weight_scale", f32(scale, {3, 2})}});
  const std::vector<float> ct = decode(load(5, 6));
  for (size_t i = 0; i < ct.size(); ++i)
    EXPECT_EQ(ct[i], formats::e4m3_to_f32(raw[i]) * scale[i / 6 / 2 * 2 + i % 6 / 4]) << i;
  write(R"({"quant_method":"fp8","weight_block_size":[2,4]})",
        {{"m.weight", of_type(DType::kF8E4M3, raw, {5, 6})}, {"m.weight_scale_inv", f32(scale, {3, 2})}});
  EXPECT_EQ(decode(load(5, 6)), ct);
}

TEST_F(Layouts, Mxfp8) {
  const auto raw = codes(2 * 64, 100);
  write(ct_section("mxfp8-quantized", R"({"num_bits":8,"type":"float","strategy":"group","group_size":32})"),
        {{"m.weight", of_type(DType::kF8E4M3, raw, {2, 64})},
         {"m.weight_scale", of_type(DType::kU8, {127, 128, 126, 120}, {2, 2})}});
  const std::vector<float> got = decode(load(2, 64));
  EXPECT_EQ(got[33], 2.0f * formats::e4m3_to_f32(raw[33]));
  EXPECT_EQ(got[127], 0.0078125f * formats::e4m3_to_f32(raw[127]));
}

TEST_F(Layouts, ScalesThatAreNotNumbersAreRefusedWithTheirPlace) {
  const auto raw = codes(2 * 32, 256);
  const std::string nv =
      ct_section("nvfp4-pack-quantized", R"({"num_bits":4,"type":"float","strategy":"tensor_group","group_size":16})");
  write(nv, {{"m.weight_packed", of_type(DType::kU8, raw, {2, 32})},
             {"m.weight_scale", of_type(DType::kF8E4M3, {1, 2, 3, 4, 5, 6, 0x7F, 8}, {2, 4})},
             {"m.weight_global_scale", f32({2}, {1})}});
  EXPECT_THAT(refusal(2, 64), HasSubstr("tensor \"m.weight_scale\": scale of row 1, group 2 is not finite"));
  write(nv, {{"m.weight_packed", of_type(DType::kU8, raw, {2, 32})},
             {"m.weight_scale", of_type(DType::kF8E4M3, {1, 2, 3, 4, 5, 6, 7, 8}, {2, 4})},
             {"m.weight_global_scale", f32({0}, {1})}});
  EXPECT_THAT(refusal(2, 64),
              HasSubstr("tensor \"m.weight_global_scale\": expected a finite, non-zero scale, found 0"));
  write(nv, {{"m.weight_packed", of_type(DType::kU8, raw, {2, 32})}});
  EXPECT_THAT(refusal(2, 64), HasSubstr("tensor \"m.weight_scale\": missing"));
  write(ct_section("mxfp4-pack-quantized", R"({"num_bits":4,"type":"float","strategy":"group","group_size":32})"),
        {{"m.weight_packed", of_type(DType::kU8, raw, {2, 32})},
         {"m.weight_scale", of_type(DType::kU8, {1, 0xFF, 3, 4}, {2, 2})}});
  EXPECT_THAT(refusal(2, 64), HasSubstr("scale of row 0, group 1 is not finite"));
  write(ct_section("float-quantized", R"({"num_bits":8,"type":"float","strategy":"channel"})"),
        {{"m.weight", of_type(DType::kF8E4M3, raw, {2, 32})}, {"m.weight_scale", f32({1, INFINITY}, {2, 1})}});
  EXPECT_THAT(refusal(2, 32), HasSubstr("scale of row 1, group 0 is not finite"));
}

TEST_F(Layouts, WrongWeightShapeIsRefused) {
  write(ct_section("pack-quantized", R"({"num_bits":4,"type":"int","strategy":"channel"})"),
        {{"m.weight_packed", words(std::vector<int32_t>(2), {2, 1})},
         {"m.weight_scale", f32({1, 2}, {2, 1})},
         {"m.weight_shape", Tensor::from<int64_t>(std::vector<int64_t>{2, 7}, {2})}});
  EXPECT_THAT(refusal(2, 8), HasSubstr("tensor \"m.weight_shape\": expected [2, 8], found [2, 7]"));
}

// Reference: w[n][k] = (q[k][n] - z[g][n]) * s[g][n]; word c of a row holds channels 8c..8c+7, nibble p channel
// order[p].
TEST_F(Layouts, AwqGemm) {
  for (const int64_t k : {12, 16}) {
    const int64_t n = 16, g = k / 4;
    const auto q = codes(static_cast<size_t>(k * n), 16), z = codes(static_cast<size_t>(g * n), 16);
    const Tensor s = f16_scales(g, n);
    const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    const auto pack = [&](const std::vector<uint8_t>& v, int64_t rows) {
      std::vector<int32_t> out(static_cast<size_t>(rows * n / 8));
      for (size_t w = 0; w < out.size(); ++w)
        for (size_t p = 0; p < 8; ++p)
          out[w] = static_cast<int32_t>(static_cast<uint32_t>(out[w]) |
                                        static_cast<uint32_t>(v[w * 8 + static_cast<size_t>(order[p])]) << (4 * p));
      return words(out, {rows, n / 8});
    };
    write(R"({"quant_method":"awq","bits":4,"group_size":4,"version":"gemm","zero_point":true})",
          {{"m.qweight", pack(q, k)}, {"m.qzeros", pack(z, g)}, {"m.scales", s}});
    const std::vector<float> scale = s.to_f32();
    const std::vector<float> got = decode(load(n, k));
    for (int64_t i = 0; i < n * k; ++i) {
      const auto row = static_cast<size_t>(i / k), col = static_cast<size_t>(i % k),
                 group = col / 4 * static_cast<size_t>(n) + row;
      EXPECT_EQ(got[static_cast<size_t>(i)],
                static_cast<float>(q[col * static_cast<size_t>(n) + row] - z[group]) * scale[group]);
    }
    EXPECT_THAT(refusal(n, 13), HasSubstr("tensor \"m.qweight\": expected I32 [13, 2], found"));
  }
}

TEST_F(Layouts, GptqBothVersionsAndAllWidths) {
  const size_t n = 32, k = 32, g = 4;
  for (const int bits : {2, 3, 4, 8}) {
    for (const bool v2 : {false, true}) {
      SCOPED_TRACE(fmt::format("{} bits, v2 {}", bits, v2));
      const auto q = codes(k * n, 1u << bits);
      auto z = codes(g * n, (1u << bits) - 1);  // stored values below the maximum, so that +1 fits
      const Tensor s = f16_scales(static_cast<int64_t>(g), static_cast<int64_t>(n));
      const auto file_words = static_cast<int64_t>(formats::packed_words(k, bits));
      write(fmt::format(R"({{"quant_method":"gptq","bits":{},"group_size":8,"checkpoint_format":"{}"}})", bits,
                        v2 ? "gptq_v2" : "gptq"),
            {{"m.qweight", words(formats::pack_int32_rows(q, k, n, bits), {file_words, 32})},
             {"m.qzeros", words(formats::pack_int32(z, g, n, bits), {4, file_words})},
             {"m.scales", s},
             {"m.g_idx", words(
                             [] {
                               std::vector<int32_t> v(32);
                               for (int32_t i = 0; i < 32; ++i) v[static_cast<size_t>(i)] = i / 8;
                               return v;
                             }(),
                             {32})}});
      const std::vector<float> scale = s.to_f32();
      const std::vector<float> got = decode(load(32, 32));
      for (size_t i = 0; i < n * k; ++i) {
        const size_t row = i / k, col = i % k, group = col / 8 * n + row;
        ASSERT_EQ(got[i], static_cast<float>(q[col * n + row] - (z[group] + (v2 ? 0 : 1))) * scale[group]) << i;
      }
    }
  }
}

TEST_F(Layouts, ModelOptScalesMultiply) {
  const auto raw = codes(2 * 16, 256);
  write(R"({"quant_method":"modelopt","quant_algo":"NVFP4"})",
        {{"m.weight", of_type(DType::kU8, raw, {2, 16})},
         {"m.weight_scale", of_type(DType::kF8E4M3, {0x38, 0x40, 0x30, 0x38}, {2, 2})},
         {"m.weight_scale_2", f32({0.5f}, {})},
         {"m.input_scale", f32({1}, {})}});
  const std::vector<float> got = decode(load(2, 32));
  EXPECT_EQ(got[1], 0.5f * formats::e2m1_to_f32(static_cast<uint8_t>(raw[0] >> 4)));
  EXPECT_EQ(got[16], 1.0f * formats::e2m1_to_f32(raw[8] & 15));
  // The same numbers with the settings in hf_quant_config.json.
  dir_.write("config.json", "{}");
  dir_.write("hf_quant_config.json",
             R"({"producer":{"name":"modelopt"},"quantization":{"quant_algo":"NVFP4","group_size":16}})");
  c_ = std::make_unique<Checkpoint>(open_checkpoint(dir_.path()));
  EXPECT_EQ(decode(load(2, 32)), got);
}

TEST_F(Layouts, BitsAndBytesNf4WithDoubleQuantisation) {
  const auto raw = codes(2 * 32, 256);
  const std::vector<float> absmax = {1, 2};
  const std::string state = R"({"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[2,64]})";
  const std::string section = R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4"})";
  const Tensor blob = of_type(DType::kU8, {state.begin(), state.end()}, {static_cast<int64_t>(state.size())});
  write(section, {{"m.weight", of_type(DType::kU8, raw, {64, 1})},
                  {"m.weight.absmax", f32(absmax, {2})},
                  {"m.weight.quant_state.bitsandbytes__nf4", blob}});
  const std::vector<float> got = decode(load(2, 64));
  EXPECT_EQ(got[0], formats::kNF4Table[raw[0] >> 4]);  // first element in the high nibble
  EXPECT_EQ(got[65], 2 * formats::kNF4Table[raw[32] & 15]);

  const std::string nested =
      R"({"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[2,64],"nested_blocksize":256,"nested_offset":0.25})";
  std::vector<float> map(256);
  for (size_t i = 0; i < 256; ++i) map[i] = static_cast<float>(i) / 256;
  write(section, {{"m.weight", of_type(DType::kU8, raw, {64, 1})},
                  {"m.weight.absmax", of_type(DType::kU8, {64, 128}, {2})},
                  {"m.weight.nested_absmax", f32({4}, {1})},
                  {"m.weight.nested_quant_map", f32(map, {256})},
                  {"m.weight.quant_state.bitsandbytes__nf4",
                   of_type(DType::kU8, {nested.begin(), nested.end()}, {static_cast<int64_t>(nested.size())})}});
  EXPECT_EQ(decode(load(2, 64))[64], 2.25f * formats::kNF4Table[raw[32] >> 4]);
  EXPECT_THAT(refusal(64, 2), HasSubstr("shape: expected [64, 2]"));
}

TEST_F(Layouts, BitsAndBytesInt8) {
  write(R"({"quant_method":"bitsandbytes","load_in_8bit":true})",
        {{"m.weight", of_type(DType::kI8, {0x7F, 0x81}, {1, 2})}, {"m.SCB", f32({2}, {1})}});
  EXPECT_EQ(decode(load(1, 2)), (std::vector<float>{127 * (2 / 127.0f), -127 * (2 / 127.0f)}));
}

TEST_F(Layouts, GptOssExperts) {
  const auto raw = codes(2 * 3 * 32, 256);
  write(R"({"quant_method":"mxfp4","modules_to_not_convert":["lm_head"]})",
        {{"m_blocks", of_type(DType::kU8, raw, {2, 3, 2, 16})},
         {"m_scales", of_type(DType::kU8, {127, 127, 127, 127, 127, 127, 127, 127, 128, 127, 127, 126}, {2, 3, 2})}});
  const PackedWeight w = load_expert(c_->source, c_->config, "m", 1, 2, 3, 64);
  EXPECT_EQ(w.format, Format::kMxfp4);
  const std::vector<float> got = decode(w);
  EXPECT_EQ(got[64], 2.0f * formats::e2m1_to_f32(raw[(3 + 1) * 32] & 15));
  EXPECT_EQ(got[191], 0.5f * formats::e2m1_to_f32(static_cast<uint8_t>(raw[191] >> 4)));
  EXPECT_THAT(input_error([&] { load_expert(c_->source, c_->config, "m", 0, 3, 3, 64); }),
              HasSubstr("expected U8 [3, 3, 2, 16]"));
}

TEST_F(Layouts, DenseExpertsAreSlices) {
  write("", {{"e.weight", f32({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2})}});
  EXPECT_EQ(decode(load_expert(c_->source, c_->config, "e", 1, 2, 2, 2)), (std::vector<float>{5, 6, 7, 8}));
}

TEST_F(Layouts, FpQuantZeroGroupTrapIsRefusedNotRead) {
  for (const std::string& dir : vector_dirs("00-formats")) {
    const std::string path = path_join(dir, "fpquant_zero_group_trap.safetensors");
    if (!file_exists(path)) continue;
    const SafetensorsFile file = SafetensorsFile::open(path);
    write(R"({"quant_method":"fp_quant","forward_dtype":"nvfp4","hadamard_group_size":16})",
          {{"m.qweight", file.tensor("exported_packed")},
           {"m.scales", file.tensor("exported_scale_code")},
           {"m.weight_global_scale", file.tensor("global_scale")}});
    EXPECT_THAT(refusal(2, 32), HasSubstr("tensor \"m.scales\": scale of row"));
  }
}

}  // namespace
}  // namespace fettle::io
