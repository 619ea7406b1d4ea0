#include "models/config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "models/rope.h"

namespace fettle::models {
namespace {

ModelConfig parse(const std::string& text) { return parse_hf_config(parse_json(text, "config.json"), "config.json"); }

std::string error_of(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

constexpr const char* kBase =
    R"("hidden_size":64,"intermediate_size":96,"num_hidden_layers":6,"num_attention_heads":4,"vocab_size":100)";

std::string config(const std::string& type, const std::string& more = "") {
  return "{\"model_type\":\"" + type + "\"," + kBase + (more.empty() ? "" : "," + more) + "}";
}

TEST(Config, ReadsNewAndOldRopeKeysAlike) {
  const ModelConfig old =
      parse(config("llama", R"("rope_theta":500000.0,"rope_scaling":{"type":"linear","factor":4.0})"));
  const ModelConfig now =
      parse(config("llama", R"("rope_parameters":{"rope_type":"linear","rope_theta":500000.0,"factor":4.0})"));
  for (const ModelConfig& c : {old, now}) {
    EXPECT_EQ(c.rope.theta, 500000.0);
    EXPECT_EQ(c.rope.type, RopeType::kLinear);
    EXPECT_EQ(c.rope.factor, 4.0);
  }
}

TEST(Config, SlidingLayersPerFamily) {
  EXPECT_EQ(parse(config("mistral", R"("sliding_window":7)")).sliding_window, std::vector<int64_t>(6, 7));
  EXPECT_EQ(parse(config("mistral", R"("sliding_window":null)")).sliding_window, std::vector<int64_t>(6, 0));
  EXPECT_EQ(parse(config("gemma2", R"("sliding_window":7)")).sliding_window, (std::vector<int64_t>{7, 0, 7, 0, 7, 0}));
  const ModelConfig gemma3 = parse(config("gemma3_text", R"("sliding_window":7)"));
  EXPECT_EQ(gemma3.sliding_window, (std::vector<int64_t>{7, 7, 7, 7, 7, 0}));
  EXPECT_EQ(gemma3.uses_local_rope, (std::vector<bool>{true, true, true, true, true, false}));
  EXPECT_EQ(gemma3.rope.theta, 1e6);
  EXPECT_EQ(
      parse(config("qwen2", R"("use_sliding_window":true,"sliding_window":9,"max_window_layers":4)")).sliding_window,
      (std::vector<int64_t>{0, 0, 0, 0, 9, 9}));
  EXPECT_EQ(parse(config("qwen2", R"("use_sliding_window":false,"sliding_window":9)")).sliding_window,
            std::vector<int64_t>(6, 0));
  EXPECT_EQ(parse(config("mistral",
                         R"("sliding_window":3,"layer_types":["full_attention","sliding_attention","full_attention",
      "full_attention","full_attention","full_attention"])"))
                .sliding_window,
            (std::vector<int64_t>{0, 3, 0, 0, 0, 0}));
}

TEST(Config, GemmaRoundsItsEmbeddingScaleToTheModelDtype) {
  EXPECT_EQ(parse(config("gemma2", R"("torch_dtype":"bfloat16")")).embedding_scale, 8.0);
  std::string text = config("gemma2", R"("torch_dtype":"bfloat16")");
  text.replace(text.find("\"hidden_size\":64"), 16, "\"hidden_size\":1152");
  EXPECT_EQ(parse(text).embedding_scale, 34.0);  // sqrt(1152) = 33.94 in bf16
  text.replace(text.find("bfloat16"), 8, "float32");
  EXPECT_FLOAT_EQ(static_cast<float>(parse(text).embedding_scale), std::sqrt(1152.0f));
}

TEST(Config, MoeLayersFollowStepAndDenseList) {
  const ModelConfig c = parse(config("qwen3_moe", R"("num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":16,
      "decoder_sparse_step":2,"mlp_only_layers":[3])"));
  EXPECT_EQ(c.sparse_layer, (std::vector<bool>{false, true, false, false, false, true}));
  EXPECT_FALSE(c.norm_topk_prob);
}

TEST(Config, WrapperConfigsUseTheirTextPart) {
  const ModelConfig c =
      parse("{\"model_type\":\"gemma3\",\"eos_token_id\":[1,2],\"text_config\":" + config("gemma3_text") + "}");
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.eos_token_ids, (std::vector<int64_t>{1, 2}));
}

TEST(Config, RefusalsNameKeyExpectedAndFound) {
  EXPECT_EQ(error_of(config("lama")).substr(0, 55), "config.json: model_type: \"lama\" is not supported; known");
  EXPECT_NE(error_of(config("llama", R"("head_dim":15)")).find("rotary dimension 15 is odd"), std::string::npos);
  EXPECT_NE(
      error_of(config("llama", R"("num_hidden_layers_":1,"rms_norm_eps":0)")).find("rms_norm_eps: expected number"),
      std::string::npos);
  EXPECT_NE(error_of(config("llama", R"("eos_token_id":100)")).find("eos_token_id: expected integer in [0, 99]"),
            std::string::npos);
  EXPECT_NE(error_of(config("llama", R"("rope_scaling":{"rope_type":"magic"})")).find("rope_scaling.rope_type"),
            std::string::npos);
  EXPECT_NE(error_of(config("llama", R"("num_experts":4)")).find("changes the computation"), std::string::npos);
  EXPECT_NE(error_of(config("llama", R"("hidden_act":"relu")")).find("hidden_act: expected silu"), std::string::npos);
  EXPECT_EQ(error_of("[]"), "config.json: (top level): expected object, found array");
  std::string huge = config("llama");
  huge.replace(huge.find("\"num_hidden_layers\":6"), 21, "\"num_hidden_layers\":99999999");
  EXPECT_NE(error_of(huge).find("num_hidden_layers: expected integer in [1, 4096]"), std::string::npos);
}

RopeConfig rope(RopeType type) {
  RopeConfig r;
  r.type = type;
  r.factor = 4;
  r.original_max_position_embeddings = 128;
  return r;
}

TEST(Rope, LinearDividesAndDefaultDoesNot) {
  const RopeTable plain(rope(RopeType::kDefault), 32, 512, 512), linear(rope(RopeType::kLinear), 32, 512, 512);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_DOUBLE_EQ(plain.frequencies()[i], std::pow(10000.0, -static_cast<double>(i) / 16));
    EXPECT_DOUBLE_EQ(linear.frequencies()[i], plain.frequencies()[i] / 4);
  }
}

TEST(Rope, YarnKeepsFastPairsDividesSlowOnesAndScalesAttention) {
  const RopeTable plain(rope(RopeType::kDefault), 64, 512, 512), yarn(rope(RopeType::kYarn), 64, 512, 512);
  EXPECT_DOUBLE_EQ(yarn.frequencies().front(), plain.frequencies().front());
  EXPECT_DOUBLE_EQ(yarn.frequencies().back(), plain.frequencies().back() / 4);
  EXPECT_DOUBLE_EQ(yarn.attention_factor(), 0.1 * std::log(4.0) + 1.0);
  RopeConfig one = rope(RopeType::kYarn);
  one.factor = 1;
  const RopeTable same(one, 64, 512, 512);
  EXPECT_EQ(same.frequencies(), plain.frequencies());
  EXPECT_EQ(same.attention_factor(), 1.0);
}

TEST(Rope, LongRopeChoosesFactorsByContext) {
  RopeConfig r = rope(RopeType::kLongRope);
  r.short_factor.assign(16, 1.0);
  r.long_factor.assign(16, 8.0);
  const RopeTable near(r, 32, 512, 128), far(r, 32, 512, 129);
  EXPECT_DOUBLE_EQ(near.frequencies()[3], 8 * far.frequencies()[3]);
  EXPECT_DOUBLE_EQ(far.attention_factor(), std::sqrt(1 + std::log(4.0) / std::log(128.0)));
}

TEST(Rope, DynamicGrowsThetaBeyondTheTrainedLength) {
  const RopeTable plain(rope(RopeType::kDefault), 32, 512, 2048), dynamic(rope(RopeType::kDynamic), 32, 512, 2048);
  std::vector<float> cos(16), sin(16), want_cos(16), want_sin(16);
  dynamic.fill(100, 512, cos, sin);
  plain.fill(100, 512, want_cos, want_sin);
  EXPECT_EQ(cos, want_cos);
  RopeConfig grown = rope(RopeType::kDefault);
  grown.theta = 10000.0 * std::pow(4.0 * 1024 / 512 - 3.0, 32.0 / 30.0);
  dynamic.fill(100, 1024, cos, sin);
  RopeTable(grown, 32, 512, 2048).fill(100, 1024, want_cos, want_sin);
  EXPECT_EQ(sin, want_sin);
}

}  // namespace
}  // namespace fettle::models
