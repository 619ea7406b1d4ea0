#include "io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/json.h"
#include "io/test_util.h"

namespace fettle::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Gguf, CasesGetTheirVerdict) {
  int cases = 0;
  for (const std::string& dir : vector_dirs("00-formats/gguf_cases")) {
    const Json manifest = parse_json_file(path_join(dir, "manifest.json"));
    for (const auto& [name, row] : manifest.as_object()) {
      SCOPED_TRACE(name);
      const std::string path = path_join(dir, name + ".gguf");
      const bool expected = row.find("policy")->as_string() == "accept";
      const AllocationMeter meter;
      std::string message;
      try {
        GgufFile::open(path);
      } catch (const Error& e) {
        message = e.what();
        EXPECT_EQ(e.code(), ErrorCode::kInput);
        EXPECT_THAT(message, HasSubstr(path));
      }
      EXPECT_EQ(message.empty(), expected) << message << " / " << row.find("why")->as_string();
      EXPECT_LT(meter.bytes(), size_t{16} << 20);
      ++cases;
    }
  }
  EXPECT_GT(cases, 0);
}

class GgufRoundTrip : public ::testing::Test {
 protected:
  GgufRoundTrip() : path_(dir_.file("m.gguf")) {
    GgufMetadata meta;
    meta.string("general.architecture", "llama");
    meta.u32("llama.block_count", 2);
    meta.u64("llama.context_length", 4096);
    meta.i32("a.negative", -7);
    meta.f32("llama.rope.freq_base", 10000.0f);
    meta.boolean("tokenizer.ggml.add_bos_token", true);
    const std::vector<std::string> tokens = {"<s>", "", "caf\xC3\xA9"};
    meta.strings("tokenizer.ggml.tokens", tokens);
    meta.f32s("tokenizer.ggml.scores", std::vector<float>{0.5f, -1.0f});
    meta.i32s("tokenizer.ggml.token_type", std::vector<int32_t>{3, 1, 1});
    FileWriter out(path_);
    GgufWriter writer(out, meta, {{"b.weight", 0, {2, 3}}, {"a.weight", 8, {2, 32}}});
    std::vector<std::byte> blocks(2 * 34, std::byte{0x11});
    writer.write("a.weight", blocks);
    const float f[] = {1, 2, 3, 4, 5, 6};
    writer.write("b.weight", std::as_bytes(std::span(f)));
    writer.finish();
    out.close();
  }
  TempDir dir_;
  std::string path_;
};

TEST_F(GgufRoundTrip, ReadsBackValuesAndTensors) {
  const GgufFile file = GgufFile::open(path_);
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.block_count"), 2);
  EXPECT_EQ(file.integer("llama.context_length", 1, 1 << 20), 4096);
  EXPECT_EQ(file.integer("a.negative"), -7);
  EXPECT_EQ(file.number("llama.rope.freq_base"), 10000.0);
  EXPECT_TRUE(file.boolean("tokenizer.ggml.add_bos_token"));
  EXPECT_THAT(file.strings("tokenizer.ggml.tokens"), ElementsAre("<s>", "", "caf\xC3\xA9"));
  EXPECT_THAT(file.numbers("tokenizer.ggml.scores"), ElementsAre(0.5f, -1.0f));
  EXPECT_THAT(file.integers("tokenizer.ggml.token_type"), ElementsAre(3, 1, 1));
  EXPECT_EQ(file.integer_or("absent", 9), 9);
  EXPECT_THAT(file.at("b.weight").shape, ElementsAre(2, 3));
  EXPECT_EQ(file.tensor("b.weight").to_f32()[5], 6.0f);
  const Tensor blocks = file.tensor("a.weight");
  EXPECT_EQ(blocks.dtype(), DType::kU8);
  EXPECT_THAT(blocks.shape(), ElementsAre(2, 34));
}

TEST_F(GgufRoundTrip, TypedReadsNameKeyExpectedAndFound) {
  const GgufFile file = GgufFile::open(path_);
  EXPECT_THAT(input_error([&] { file.string("llama.block_count"); }),
              HasSubstr("key \"llama.block_count\": expected string, found u32"));
  EXPECT_THAT(input_error([&] { file.integer("llama.block_count", 3, 9); }),
              HasSubstr("expected an integer in [3, 9], found 2"));
  EXPECT_THAT(input_error([&] { file.integer("general.architecture"); }),
              HasSubstr("expected an integer, found string"));
  EXPECT_THAT(input_error([&] { file.numbers("tokenizer.ggml.tokens"); }),
              HasSubstr("expected array of f32 or f64, found array of 3 string"));
  EXPECT_THAT(input_error([&] { file.boolean("nope"); }), HasSubstr("key \"nope\": expected bool, the key is missing"));
  EXPECT_THAT(input_error([&] { file.tensor("c.weight"); }), HasSubstr("tensor \"c.weight\": missing"));
}

TEST_F(GgufRoundTrip, CopiedMetadataIsIdentical) {
  const GgufFile file = GgufFile::open(path_);
  GgufMetadata copy;
  for (const GgufValue& v : file.values()) copy.copy(v);
  EXPECT_EQ(copy.count(), file.values().size());
  const std::string image = read_file(path_, 1 << 20);
  EXPECT_THAT(image, HasSubstr(std::string(copy.encoded())));
}

TEST_F(GgufRoundTrip, EveryTruncationIsRefused) {
  const std::string image = read_file(path_, 1 << 20);
  const size_t last_padding = 32 - (2 * 34) % 32;
  for (size_t n = 0; n < image.size() - last_padding; ++n) {
    const std::string cut = image.substr(0, n);
    EXPECT_THROW(GgufFile::parse(std::as_bytes(std::span(cut)), "cut.gguf"), Error) << n;
  }
}

TEST(Gguf, RefusedTypesAreNamedWithAHint) {
  EXPECT_THAT(std::string(ggml_type_refusal(34)), HasSubstr("TQ1_0"));
  EXPECT_THAT(std::string(ggml_type_refusal(353)), HasSubstr("MXFP4_R8"));
  EXPECT_THAT(std::string(ggml_type_refusal(139)), HasSubstr("ik_llama.cpp"));
  EXPECT_THAT(std::string(ggml_type_refusal(43)), HasSubstr("not a type of ggml"));
  for (uint32_t id = 0; id < 500; ++id) EXPECT_EQ(find_ggml_type(id) == nullptr, !ggml_type_refusal(id).empty()) << id;
}

TEST(Gguf, WriterRefusesWhatTheFormatCannotHold) {
  EXPECT_THAT(input_error([] {
                GgufTensorSpec{"w", 8, {2, 33}}.bytes();
              }),
              HasSubstr("no multiple of the Q8_0 block of 32"));
  EXPECT_THAT(input_error([] { GgufTensorSpec{"w", 34, {2, 256}}.bytes(); }), HasSubstr("TQ1_0"));
  EXPECT_THAT(input_error([] { GgufTensorSpec{"w", 0, {1, 1, 1, 1, 1}}.bytes(); }), HasSubstr("1 to 4 dimensions"));
}

}  // namespace
}  // namespace fettle::io
