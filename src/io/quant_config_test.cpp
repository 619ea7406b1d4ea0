#include "io/quant_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/test_util.h"

namespace fettle::io {
namespace {

using ::testing::HasSubstr;

QuantConfig parse(const std::string& section) {
  return QuantConfig::parse(parse_json("{\"quantization_config\":" + section + "}", "config.json"), "config.json");
}
std::string refusal(const std::string& section) {
  return input_error([&] { parse(section); });
}

std::string ct(const std::string& weights, const std::string& more = "\"format\":\"pack-quantized\"",
               const std::string& targets = "[\"Linear\"]") {
  return "{\"quant_method\":\"compressed-tensors\"," + more +
         ",\"ignore\":[\"lm_head\",\"re:.*\\\\.gate$\"],\"config_groups\":{\"group_0\":{\"targets\":" + targets +
         ",\"weights\":" + weights + "}}}";
}
constexpr const char* kInt4 = R"({"num_bits":4,"type":"int","symmetric":true,"strategy":"group","group_size":32})";

TEST(QuantConfig, NoSectionMeansDense) {
  EXPECT_EQ(QuantConfig::parse(parse_json("{}", "c"), "c").method(), QuantMethod::kNone);
  const Json nested = parse_json(R"({"text_config":{"quantization_config":{"quant_method":"mxfp4"}}})", "c");
  EXPECT_EQ(QuantConfig::parse(nested, "c").method(), QuantMethod::kMxfp4);
}

TEST(QuantConfig, TargetsAndIgnore) {
  const QuantConfig c = parse(ct(kInt4));
  ASSERT_NE(c.scheme_for("model.layers.0.mlp.up_proj"), nullptr);
  EXPECT_EQ(c.scheme_for("model.layers.0.mlp.up_proj")->group_size, 32);
  EXPECT_EQ(c.scheme_for("lm_head"), nullptr);
  EXPECT_EQ(c.scheme_for("model.embed_tokens"), nullptr);  // not a Linear
  EXPECT_EQ(c.scheme_for("model.layers.0.mlp.gate"), nullptr);
  EXPECT_NE(c.scheme_for("model.layers.0.mlp.gate_proj"), nullptr);
  const QuantConfig some = parse(ct(kInt4, "\"format\":\"pack-quantized\"", "[\"re:model.*down_proj\",\"a.b\"]"));
  EXPECT_NE(some.scheme_for("model.layers.3.mlp.down_proj"), nullptr);
  EXPECT_NE(some.scheme_for("a.b"), nullptr);
  EXPECT_EQ(some.scheme_for("x.model.layers.3.mlp.down_proj"), nullptr);  // anchored at the start
}

TEST(QuantConfig, MixedPrecisionPrefersTheSpecificTarget) {
  const QuantConfig c = parse(R"({"quant_method":"compressed-tensors","format":"mixed-precision","config_groups":{
    "a":{"format":"pack-quantized","targets":["Linear"],"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":64}},
    "b":{"format":"float-quantized","targets":["re:.*down_proj"],"weights":{"num_bits":8,"type":"float","strategy":"channel"}}}})");
  EXPECT_EQ(c.scheme_for("m.down_proj")->format, "float-quantized");
  EXPECT_EQ(c.scheme_for("m.up_proj")->format, "pack-quantized");
}

TEST(QuantConfig, RefusalsNameTheField) {
  EXPECT_THAT(refusal(R"({"quant_method":"aqlm"})"),
              HasSubstr("quantization_config.quant_method: \"aqlm\" is not supported; known methods: awq"));
  EXPECT_THAT(refusal(R"({"bits":4})"), HasSubstr("quantization_config.quant_method: missing"));
  EXPECT_THAT(refusal(R"([])"), HasSubstr("expected object"));
  EXPECT_THAT(refusal(ct(kInt4, "\"format\":\"marlin-24\"")),
              HasSubstr("\"marlin-24\" is not supported; known formats"));
  EXPECT_THAT(refusal(ct(kInt4, "\"format\":\"nvfp4-pack-quantized\"")),
              HasSubstr("does not fit weights of integer 4 bits"));
  EXPECT_THAT(refusal(ct(R"({"num_bits":9,"type":"int"})")), HasSubstr("num_bits: expected 1 to 8"));
  EXPECT_THAT(refusal(ct(R"({"num_bits":4,"strategy":"token","type":"int"})")),
              HasSubstr("\"token\" is not a weight strategy"));
  EXPECT_THAT(refusal(ct(R"({"num_bits":4,"type":"int","curve":"log"})")), HasSubstr("weights.curve: unknown key"));
  EXPECT_THAT(refusal(ct(kInt4, "\"format\":\"pack-quantized\"", "[\"re:(\"]")), HasSubstr("pattern \"re:(\""));
  EXPECT_THAT(refusal(ct(kInt4, "\"format\":\"pack-quantized\",\"sparsity_config\":{\"format\":\"sparse-24\"}")),
              HasSubstr("sparse checkpoints"));
  const auto rotated = [](const std::string& group) {
    return ct(kInt4, "\"format\":\"pack-quantized\",\"transform_config\":{\"config_groups\":{\"v\":" + group + "}}");
  };
  const std::string both = R"([{"targets":["Linear"],"location":"input"},)"
                           R"({"targets":["Linear"],"location":"weight_input","inverse":true}])";
  const QuantConfig c = parse(rotated(R"({"type":"hadamard","head_dim":32,"apply":)" + both + "}"));
  EXPECT_EQ(c.input_hadamard("model.layers.0.mlp.up_proj"), 32);
  EXPECT_THAT(refusal(rotated(R"({"type":"random-matrix","head_dim":32,"apply":)" + both + "}")),
              HasSubstr("known: hadamard"));
  EXPECT_THAT(refusal(rotated(R"({"type":"hadamard","head_dim":24,"apply":)" + both + "}")),
              HasSubstr("a power of two"));
  EXPECT_THAT(
      refusal(rotated(R"({"type":"hadamard","head_dim":32,"apply":[{"targets":["Linear"],"location":"input"}]})")),
      HasSubstr("with the same targets"));
  EXPECT_THAT(refusal(rotated(R"({"type":"hadamard","head_dim":32,"apply":[{"targets":["a"],"location":"output"}]})")),
              HasSubstr("known: input, weight_input"));
  EXPECT_THAT(refusal(R"({"quant_method":"gptq","bits":5})"), HasSubstr("bits: expected 2, 3, 4 or 8"));
  EXPECT_THAT(refusal(R"({"quant_method":"awq","version":"gemv"})"), HasSubstr("only the gemm layout"));
  EXPECT_THAT(refusal(R"({"quant_method":"modelopt","quant_algo":"W4A8_AWQ"})"), HasSubstr("known: NVFP4, FP8"));
}

TEST(QuantConfig, RunawayPatternsStopAtTheirLimit) {
  const QuantConfig c = parse(ct(kInt4, "\"format\":\"pack-quantized\"", R"(["re:^(a+)+$"])"));
  EXPECT_THAT(input_error([&] { c.scheme_for(std::string(40, 'a') + "b"); }), HasSubstr("exceeds its limits"));
  EXPECT_THAT(refusal(ct(kInt4, "\"format\":\"pack-quantized\"", "[\"re:" + std::string(9000, 'a') + "\"]")),
              HasSubstr("exceeds the limit of 8192"));
}

TEST(NamePattern, Globs) {
  EXPECT_TRUE(NamePattern("model.layers.*.self_attn*", "s").matches("model.layers.10.self_attn.q_proj", "Linear"));
  EXPECT_FALSE(NamePattern("model.layers.*.self_attn", "s").matches("model.layers.10.self_attn.q_proj", "Linear"));
  EXPECT_TRUE(NamePattern("*", "s").matches("", "Linear"));
}

}  // namespace
}  // namespace fettle::io
