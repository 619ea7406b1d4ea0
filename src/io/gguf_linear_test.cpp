#include "io/gguf_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "io/linear_loader.h"
#include "io/linear_writer.h"
#include "io/test_util.h"
#include "tensor/formats/gguf_blocks.h"

namespace fettle::io {
namespace {

using ::testing::HasSubstr;

struct Checkpoint {
  TensorSource source;
  QuantConfig config;
};

Checkpoint open_folder(const std::string& dir) {
  const ModelFiles files = resolve_model(dir);
  return {TensorSource::open(files), read_quant_config(files, read_config(files))};
}

std::string to_gguf(const TempDir& dir, const std::string& module, const PackedWeight& w) {
  const std::string path = dir.file("m.gguf");
  const auto specs = gguf_linear_specs(module, w.format, w.rows, w.cols);
  const auto data = gguf_linear_data(module, w);
  FileWriter out(path);
  GgufWriter writer(out, {}, specs);
  for (size_t i = 0; i < specs.size(); ++i) writer.write(specs[i].name, data[i]);
  writer.finish();
  out.close();
  return path;
}

// Codes that ggml never writes (-0) keep their value; everything else keeps its bits.
void expect_lossless(const PackedWeight& got, const PackedWeight& want) {
  ASSERT_EQ(got.format, want.format);
  EXPECT_EQ(got.tensor_scale, want.tensor_scale);
  EXPECT_TRUE(std::equal(got.codes.bytes().begin(), got.codes.bytes().end(), want.codes.bytes().begin(),
                         want.codes.bytes().end()));
  EXPECT_TRUE(std::equal(got.scales.bytes().begin(), got.scales.bytes().end(), want.scales.bytes().begin(),
                         want.scales.bytes().end()));
}

TEST(GgufLinear, CompressedTensorsFp4SurvivesTheTripUnchanged) {
  int matrices = 0;
  for (const char* prefix : {"ct_tiny_mxfp4", "ct_tiny_nvfp4"}) {
    for (const std::string& dir : format_vectors(prefix)) {
      const Checkpoint ct = open_folder(dir);
      const SafetensorsFile expected = SafetensorsFile::open(path_join(dir, "expected.safetensors"));
      for (const TensorEntry& e : expected.entries()) {
        if (e.shape[1] % 64 != 0) continue;  // the NVFP4 block of GGUF
        SCOPED_TRACE(e.name);
        const std::string module = e.name.substr(0, e.name.size() - 7);
        const PackedWeight w = load_linear(ct.source, ct.config, module, e.shape[0], e.shape[1]);
        const TempDir temp;
        const TensorSource gguf = TensorSource::open_gguf(to_gguf(temp, "blk.0.w", w));
        const PackedWeight back = load_linear(gguf, {}, "blk.0.w", e.shape[0], e.shape[1]);
        expect_lossless(back, w);
        // And into compressed-tensors again: every tensor of the file.
        for (const auto& [name, tensor] : linear_tensors(module, back)) {
          const Tensor original = ct.source.get(name);
          if (name.ends_with("global_scale")) {  // 1 / (1 / g) may differ from g in the last bit, the product may not
            EXPECT_EQ(1.0f / tensor.data<float>()[0], 1.0f / original.to_f32()[0]);
            continue;
          }
          EXPECT_EQ(tensor.describe(), original.describe()) << name;
          EXPECT_TRUE(std::equal(tensor.bytes().begin(), tensor.bytes().end(), original.bytes().begin())) << name;
        }
        ++matrices;
      }
    }
  }
  EXPECT_GT(matrices, 0);
}

TEST(GgufLinear, EveryBlockTypeLoadsLikeItsReferenceDecoder) {
  constexpr int64_t kRows = 4, kCols = 512;
  std::vector<float> w(kRows * kCols);
  for (size_t i = 0; i < w.size(); ++i) w[i] = std::sin(0.7f * static_cast<float>(i)) * 3.0f;
  for (const formats::GgufBlock& block : formats::gguf_blocks()) {
    SCOPED_TRACE(std::string(block.name));
    const GgmlType* type = find_ggml_type(block.ggml_type);
    ASSERT_NE(type, nullptr);
    EXPECT_EQ(type->block_bytes, block.bytes);
    EXPECT_EQ(type->block_elements, block.elements);
    EXPECT_EQ(type->format, block.format);
    if (type->dtype) continue;
    const std::vector<std::byte> bytes =
        formats::quantise_gguf(block.ggml_type, MatView<const float>(w.data(), kRows, kCols));
    const TempDir dir;
    {
      FileWriter out(dir.file("m.gguf"));
      GgufWriter writer(
          out, {},
          {{"w.weight", block.ggml_type, {kRows, kCols}}, {"e.weight", block.ggml_type, {2, kRows / 2, kCols}}});
      writer.write("w.weight", bytes);
      writer.write("e.weight", bytes);
      writer.finish();
      out.close();
    }
    const TensorSource source = TensorSource::open_gguf(dir.file("m.gguf"));
    std::vector<float> want(w.size());
    for (int64_t r = 0; r < kRows; ++r)
      formats::decode_gguf_row(block.ggml_type, bytes.data() + static_cast<size_t>(r) * (bytes.size() / kRows),
                               std::span(want).subspan(static_cast<size_t>(r * kCols), kCols));
    EXPECT_EQ(decode(load_linear(source, {}, "w", kRows, kCols)), want);
    const std::vector<float> second(want.begin() + kRows / 2 * kCols, want.end());
    EXPECT_EQ(decode(load_expert(source, {}, "e", 1, 2, kRows / 2, kCols)), second);
    EXPECT_THAT(input_error([&] { load_linear(source, {}, "w", kRows + 1, kCols); }),
                HasSubstr("tensor \"w.weight\": expected 5 rows of 512 elements"));
  }
}

TEST(GgufLinear, NonFiniteScalesAreRefused) {
  std::vector<std::byte> bytes(34, std::byte{1});
  bytes[0] = std::byte{0x00};
  bytes[1] = std::byte{0x7C};  // F16 infinity
  const TempDir dir;
  {
    FileWriter out(dir.file("m.gguf"));
    GgufWriter writer(out, {}, {{"w.weight", formats::ggml::kQ8_0, {1, 32}}});
    writer.write("w.weight", bytes);
    writer.finish();
    out.close();
  }
  const TensorSource source = TensorSource::open_gguf(dir.file("m.gguf"));
  EXPECT_THAT(input_error([&] { load_linear(source, {}, "w", 1, 32); }),
              HasSubstr("tensor \"w.weight\": scale of row 0, group 0 is not finite"));
}

TEST(GgufLinear, FormatsWithoutABlockTypeAreRefused) {
  EXPECT_THAT(input_error([] { gguf_linear_specs("w", Format::kInt4, 2, 64); }),
              HasSubstr("format int4 has no GGUF type"));
}

}  // namespace
}  // namespace fettle::io
