#include "io/linear_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "io/checkpoint_writer.h"
#include "io/linear_loader.h"
#include "io/model_files.h"
#include "io/test_util.h"

namespace fettle::io {
namespace {

using ::testing::HasSubstr;

std::vector<float> wave(int64_t n, float seed) {
  std::vector<float> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = std::sin(seed + 0.37f * static_cast<float>(i)) * (1.0f + static_cast<float>(i % 7)) * 0.05f;
  return out;
}

void expect_same(const Tensor& a, const Tensor& b, const char* part) {
  EXPECT_EQ(a.numel() == 0, b.numel() == 0) << part;
  if (a.numel() == 0) return;
  EXPECT_EQ(a.describe(), b.describe()) << part;
  EXPECT_TRUE(std::equal(a.bytes().begin(), a.bytes().end(), b.bytes().begin(), b.bytes().end())) << part;
}

void expect_same(const PackedWeight& a, const PackedWeight& b) {
  EXPECT_EQ(a.format, b.format);
  EXPECT_EQ(a.group_size, b.group_size);
  EXPECT_EQ(a.tensor_scale, b.tensor_scale);
  expect_same(a.codes, b.codes, "codes");
  expect_same(a.scales, b.scales, "scales");
  expect_same(a.zero_points, b.zero_points, "zero points");
  expect_same(a.input.col_scales, b.input.col_scales, "column scales");
  EXPECT_EQ(a.input.hadamard, b.input.hadamard);
}

struct Case {
  const char* format;
  int64_t group;
  bool symmetric;
  DType scale = DType::kBF16;
};

PackedWeight encoded(const Case& c, int64_t rows, int64_t cols, float seed) {
  const std::vector<float> w = wave(rows * cols, seed);
  FormatOptions options;
  options.group_size = c.group;
  options.symmetric = c.symmetric;
  options.scale_dtype = c.scale;
  return find_format(c.format)->encode(
      MatView<const float>(w.data(), static_cast<size_t>(rows), static_cast<size_t>(cols)), options);
}

const Case kCases[] = {
    {"bf16", 0, true},   {"f32", 0, true},    {"f16", 0, true},
    {"int4", 32, true},  {"int3", 32, true},  {"int3", 64, false},
    {"int2", 32, true},  {"int2", 64, false}, {"int3", -1, true},
    {"int4", 64, false}, {"int4", -1, true},  {"int4", -1, false},
    {"int8", -1, true},  {"int8", 32, true},  {"int8", 32, false},
    {"int8", -1, false}, {"fp8", -1, true},   {"mxfp4", 0, true},
    {"mxfp8", 0, true},  {"nvfp4", 0, true},  {"nf4", 64, true, DType::kF32},
};

TEST(LinearWriter, EveryFormatReadsBackToTheSameBytes) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(fmt::format("{} group {} {}", c.format, c.group, c.symmetric ? "symmetric" : "asymmetric"));
    const TempDir dir;
    PackedWeight up = encoded(c, 24, 128, 1), down = encoded(c, 32, 64, 2);
    if (up.group_size > 0) {  // quantised: column scales on one matrix, rotated inputs on the other
      down.input.col_scales = Tensor::from<float>(wave(64, 7), {64});
      up.input.hadamard = up.format == Format::kNF4 ? 0 : 32;
    }
    const PackedWeight head = encoded({"bf16", 0, true}, 8, 64, 3);
    QuantSection section;
    std::vector<TensorSpec> specs;
    std::vector<std::pair<std::string, Tensor>> tensors;
    const std::pair<const char*, const PackedWeight*> modules[] = {
        {"model.up", &up}, {"model.down", &down}, {"lm_head", &head}};
    for (const auto& [name, w] : modules) {
      section.add(name, plan_of(*w));
      for (TensorSpec& s : linear_specs(name, plan_of(*w))) specs.push_back(std::move(s));
      for (auto& t : linear_tensors(name, *w)) tensors.push_back(std::move(t));
    }
    OutputDir out(dir.file("m"), Overwrite::kNo);
    Json config = Json::object();
    if (Json q = section.json(); !q.is_null()) config["quantization_config"] = std::move(q);
    write_file_atomic(out.file("config.json"), config.dump(2));
    CheckpointWriter writer(out, specs, 6000);
    for (const auto& [name, t] : tensors) writer.write(name, t);
    writer.finish();
    out.commit();

    const ModelFiles files = resolve_model(dir.file("m"));
    const TensorSource source = TensorSource::open(files);
    const QuantConfig read = read_quant_config(files, read_config(files));
    for (const auto& [name, w] : modules) expect_same(load_linear(source, read, name, w->rows, w->cols), *w);
  }
}

TEST(LinearWriter, PlansAgreeWithEncodedWeights) {
  for (const Case& c : kCases) {
    FormatOptions options;
    options.group_size = c.group;
    options.symmetric = c.symmetric;
    options.scale_dtype = c.scale;
    const PackedWeight w = encoded(c, 8, 128, 4);
    const auto planned = linear_specs("m", plan_weight(w.format, 8, 128, options)),
               actual = linear_specs("m", plan_of(w));
    ASSERT_EQ(planned.size(), actual.size()) << c.format;
    const auto tensors = linear_tensors("m", w);
    for (size_t i = 0; i < planned.size(); ++i) {
      EXPECT_EQ(planned[i].name, actual[i].name);
      EXPECT_EQ(planned[i].shape, tensors[i].second.shape()) << planned[i].name;
      EXPECT_EQ(planned[i].dtype, tensors[i].second.dtype()) << planned[i].name;
    }
  }
}

TEST(LinearWriter, ConfigHasExactlyTheUpstreamKeys) {
  QuantSection section;
  section.add("a", plan_weight(Format::kNvfp4, 4, 64, {}));
  section.add("lm_head", plan_weight(Format::kBF16, 4, 64, {}));
  const Json q = section.json();
  EXPECT_EQ(
      q.dump(),
      R"({"config_groups":{"group_0":{"format":"nvfp4-pack-quantized","input_activations":null,"output_activations":null,)"
      R"("targets":["Linear"],"weights":{"actorder":null,"block_structure":null,"dynamic":false,"group_size":16,"num_bits":4,)"
      R"("observer":"memoryless_minmax","observer_kwargs":{},"scale_dtype":"torch.float8_e4m3fn","strategy":"tensor_group",)"
      R"("symmetric":true,"type":"float","zp_dtype":null}}},"format":"nvfp4-pack-quantized","global_compression_ratio":null,)"
      R"("ignore":["lm_head"],"kv_cache_scheme":null,"quant_method":"compressed-tensors","quantization_status":"compressed",)"
      R"("sparsity_config":{},"transform_config":{},"version":"0.12.0"})");
}

TEST(LinearWriter, MixedFormatsNameTheirModules) {
  QuantSection section;
  section.add("a", plan_weight(Format::kInt4, 4, 128, {.group_size = 32}));
  section.add("b", plan_weight(Format::kFp8, 4, 128, {}));
  section.add("c", plan_weight(Format::kInt4, 8, 256, {.group_size = 32}));
  const Json q = section.json();
  EXPECT_EQ(q.find("format")->as_string(), "mixed-precision");
  EXPECT_EQ(q.find("config_groups")->find("group_0")->find("targets")->dump(), R"(["a","c"])");
  section.add("d", plan_weight(Format::kNF4, 4, 128, {}));
  EXPECT_THAT(input_error([&] { section.json(); }, ErrorCode::kUsage),
              HasSubstr("nf4 is stored in bitsandbytes layout"));
}

TEST(LinearWriter, RefusesWhatTheDialectCannotHold) {
  EXPECT_THAT(input_error([] { plan_weight(Format::kInt4, 4, 100, {.group_size = 64}); }),
              HasSubstr("100 columns are no multiple of the group size 64"));
  EXPECT_THAT(input_error([] { plan_weight(Format::kQ4_K, 4, 256, {}); }, ErrorCode::kUsage),
              HasSubstr("q4_k: GGUF block types"));
}

}  // namespace
}  // namespace fettle::io
