#include "compress/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compress/compress.h"
#include "compress/gguf_metadata.h"
#include "compress/model_tensors.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "compress/weight_tools.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "models/gguf_names.h"
#include "models/weight_source.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace fettle::compress {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;

class ConvertTest : public ::testing::Test {
 protected:
  ConvertTest() : pool_(2), model_(dir_ / "model") {}
  ConvertOptions type(const std::string& name) { return {.type = name, .overwrite = Overwrite::kYes}; }

  // Every tensor of a and b, equal to the bit.
  void expect_same_tensors(const std::string& a, const std::string& b) {
    const io::TensorSource x = io::TensorSource::open_directory(a), y = io::TensorSource::open_directory(b);
    ASSERT_EQ(x.entries().size(), y.entries().size());
    for (const io::TensorEntry* e : x.entries()) {
      ASSERT_TRUE(y.has(e->name)) << e->name;
      EXPECT_EQ(x.get(e->name).to_f32(), y.get(e->name).to_f32()) << e->name;
    }
  }

  // Numbers of every linear layer of a directory equal those of a GGUF file.
  void expect_same_numbers(const std::string& directory, const std::string& file) {
    const auto hf = models::open_hf_weights(io::resolve_model(directory), pool_);
    const auto gguf = models::open_gguf_weights(io::resolve_model(file), pool_);
    const models::ModelConfig& c = hf->config();
    for (const ModelTensor& t : model_tensors(c)) {
      if (t.kind != ModelTensor::Kind::kMatrix) continue;
      const PackedWeight w = hf->matrix(t.name, t.rows, t.cols);
      PackedWeight g = gguf->matrix(t.name, t.rows, t.cols);
      if (t.name.ends_with("q_proj") && gguf->config().interleaved_rope)
        g = permute_rows(g, to_split_halves(c.num_attention_heads, c.head_dim));
      if (t.name.ends_with("k_proj") && gguf->config().interleaved_rope)
        g = permute_rows(g, to_split_halves(c.num_key_value_heads, c.head_dim));
      const std::vector<float> x = decode(w), y = decode(g);
      for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], y[i]) << t.name << " element " << i;
    }
  }

  TempDir dir_;
  ThreadPool pool_;
  std::string model_;
};

TEST_F(ConvertTest, EveryArchitectureSurvivesTheWayThroughGguf) {
  for (const SynthShape& shape : synth_shapes()) {
    if (shape.params != "tiny") continue;
    SCOPED_TRACE(shape.arch);
    synth(model_, {.arch = shape.arch, .params = shape.params, .dtype = DType::kBF16}, Overwrite::kYes, pool_);
    const std::string gguf = dir_ / "m.gguf", back = dir_ / "back";
    const ConvertReport there = convert(model_, gguf, type("auto"), pool_);
    EXPECT_EQ(there.fallbacks, 0u);
    EXPECT_EQ(there.bytes, std::filesystem::file_size(gguf));
    for (const ConvertedTensor& t : there.tensors) EXPECT_TRUE(t.exact) << t.name;
    convert(gguf, back, type("auto"), pool_);
    expect_same_tensors(model_, back);
    const auto before = text::load_tokenizer_json(model_), after = text::load_tokenizer_json(back);
    EXPECT_EQ(before->encode("The Mole, 1908: café"), after->encode("The Mole, 1908: café"));
    // The configs describe the same model.
    const models::ModelConfig a = models::parse_hf_config(parse_json_file(model_ + "/config.json"), "a");
    const models::ModelConfig b = models::parse_hf_config(parse_json_file(back + "/config.json"), "b");
    EXPECT_EQ(a.sliding_window, b.sliding_window);
    EXPECT_EQ(a.sparse_layer, b.sparse_layer);
    EXPECT_FLOAT_EQ(static_cast<float>(a.attention_scale), static_cast<float>(b.attention_scale));
    EXPECT_FLOAT_EQ(static_cast<float>(a.rope.theta), static_cast<float>(b.rope.theta));
    EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
    EXPECT_EQ(a.num_experts_per_tok, b.num_experts_per_tok);
  }
}

TEST_F(ConvertTest, QuantisedLayersKeepTheirNumbers) {
  synth(model_, {.dtype = DType::kBF16}, Overwrite::kYes, pool_);
  struct Case {
    Format format;
    int64_t group;
    uint32_t ggml;
  };
  for (const Case& c : {Case{Format::kMxfp4, 0, 39}, Case{Format::kNvfp4, 0, 40}, Case{Format::kInt4, 64, 2},
                        Case{Format::kInt8, -1, 8}}) {
    SCOPED_TRACE(format_info(c.format).name);
    CompressOptions o;
    o.format = c.format;
    o.numbers.group_size = c.group;
    o.overwrite = Overwrite::kYes;
    compress(model_, dir_ / "q", o, pool_);
    convert(dir_ / "q", dir_ / "q.gguf", type("auto"), pool_);
    EXPECT_EQ(io::GgufFile::open(dir_ / "q.gguf").at("blk.0.attn_q.weight").ggml_type, c.ggml);
    expect_same_numbers(dir_ / "q", dir_ / "q.gguf");
  }
}

TEST_F(ConvertTest, AutoRefusesWhatHasNoExactForm) {
  synth(model_, {}, Overwrite::kYes, pool_);
  CompressOptions o;
  o.format = Format::kNF4;
  compress(model_, dir_ / "q", o, pool_);
  try {
    convert(dir_ / "q", dir_ / "q.gguf", type("auto"), pool_);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInput);
    EXPECT_THAT(e.what(), ::testing::AllOf(HasSubstr("nf4"), HasSubstr("--type")));
  }
  EXPECT_FALSE(file_exists(dir_ / "q.gguf"));
  EXPECT_THROW(convert(dir_ / "q", dir_ / "plain", type("auto"), pool_), Error);
  convert(dir_ / "q", dir_ / "plain", type("bf16"), pool_);
  EXPECT_EQ(parse_json_file(dir_ / "plain/config.json").find("quantization_config"), nullptr);
  EXPECT_THROW(convert(model_, dir_ / "x.gguf", type("q9_9"), pool_), Error);
  EXPECT_THROW(convert(model_, dir_ / "x", type("q8_0"), pool_), Error);
}

TEST_F(ConvertTest, BlockTypesKeepEndsAtEightBitsAndFallBackForShortRows) {
  const std::string stories = std::string(FETTLE_TEST_DATA) + "/models/stories260K";
  const ConvertReport r = convert(stories, dir_ / "s.gguf", type("q4_0"), pool_);
  EXPECT_EQ(r.fallbacks, 5u) << "the down projections have rows of 172";
  const io::GgufFile file = io::GgufFile::open(dir_ / "s.gguf");
  EXPECT_EQ(file.at("token_embd.weight").ggml_type, 8u);
  EXPECT_EQ(file.at("blk.0.attn_q.weight").ggml_type, 2u);
  EXPECT_EQ(file.at("blk.0.ffn_down.weight").ggml_type, 1u);
  EXPECT_EQ(file.find("output.weight"), nullptr) << "tied";
  EXPECT_EQ(file.integer("general.file_type"), 2);
  EXPECT_EQ(file.string("general.architecture"), "llama");
}

TEST_F(ConvertTest, SentencePieceTokenizerComesBackFromGguf) {
  const std::string stories = std::string(FETTLE_TEST_DATA) + "/models/stories260K";
  convert(stories, dir_ / "s.gguf", type("auto"), pool_);
  convert(dir_ / "s.gguf", dir_ / "back", type("auto"), pool_);
  expect_same_tensors(stories, dir_ / "back");
  const auto a = text::load_tokenizer_json(stories), b = text::load_tokenizer_json(dir_ / "back");
  for (const char* t : {"", "Once upon a time", "  two spaces", "Lily's mom said, \"OK\"\n", "漢字"})
    EXPECT_EQ(a->encode(t), b->encode(t)) << t;
}

TEST_F(ConvertTest, VocabularyIsPaddedToTheEmbedding) {
  synth(model_, {}, Overwrite::kYes, pool_);  // 260 tokens, 320 rows
  convert(model_, dir_ / "m.gguf", type("auto"), pool_);
  const io::GgufFile file = io::GgufFile::open(dir_ / "m.gguf");
  const auto tokens = file.strings("tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.size(), 320u);
  EXPECT_EQ(tokens[319], "[PAD319]");
  EXPECT_EQ(file.integers("tokenizer.ggml.token_type")[319], 5);
  EXPECT_THAT(std::string(file.string("tokenizer.chat_template")), HasSubstr("<|im_start|>"));
}

TEST(RowOrder, AdjacentPairsAndBack) {
  // Two heads of four rows: halves (0 1 | 2 3) become pairs (0 2)(1 3).
  EXPECT_EQ(to_adjacent_pairs(2, 4), (std::vector<int64_t>{0, 2, 1, 3, 4, 6, 5, 7}));
  const auto forward = to_adjacent_pairs(3, 64), back = to_split_halves(3, 64);
  for (size_t i = 0; i < forward.size(); ++i) EXPECT_EQ(forward[static_cast<size_t>(back[i])], static_cast<int64_t>(i));
}

TEST(Llama3Divisors, AreOneForFastAndTheFactorForSlowPairs) {
  models::RopeConfig rope;
  rope.theta = 500000;
  rope.factor = 32;
  rope.original_max_position_embeddings = 8192;
  const std::vector<float> d = llama3_divisors(rope, 64);
  ASSERT_EQ(d.size(), 32u);
  EXPECT_EQ(d.front(), 1.0f);
  EXPECT_EQ(d.back(), 32.0f);
  for (size_t i = 1; i < d.size(); ++i) EXPECT_GE(d[i], d[i - 1]);
}

}  // namespace
}  // namespace fettle::compress
