#include "compress/compress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compress/manifest.h"
#include "compress/method.h"
#include "compress/model_tensors.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "compress/weight_tools.h"
#include "io/checkpoint.h"
#include "models/weight_source.h"

namespace fettle::compress {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TempDir;

template <typename F>
std::string error_of(ErrorCode code, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

class CompressTest : public ::testing::Test {
 protected:
  CompressTest() : pool_(2), model_(dir_ / "model") {}
  void make(const std::string& arch = "llama") {
    synth(model_, {.arch = arch, .dtype = DType::kF32}, Overwrite::kYes, pool_);
  }
  static CompressOptions options(Format format, int64_t group = 0, bool symmetric = true) {
    CompressOptions o;
    o.format = format;
    o.numbers.group_size = group;
    o.numbers.symmetric = symmetric;
    return o;
  }
  std::unique_ptr<models::WeightSource> open(const std::string& path) {
    return models::open_hf_weights(io::resolve_model(path), pool_);
  }

  TempDir dir_;
  ThreadPool pool_;
  std::string model_;
};

TEST_F(CompressTest, EveryFormatLoadsBackWithTheReportedError) {
  make();
  const auto original = open(model_);
  const CompressOptions cases[] = {options(Format::kInt8),     options(Format::kInt8, 64),
                                   options(Format::kInt4, 32), options(Format::kInt4, 64, false),
                                   options(Format::kInt4, -1), options(Format::kNF4),
                                   options(Format::kMxfp4),    options(Format::kMxfp8),
                                   options(Format::kNvfp4),    options(Format::kFp8)};
  for (const CompressOptions& o : cases) {
    const std::string out = dir_ / std::string(format_info(o.format).name) + std::to_string(o.numbers.group_size);
    const CompressReport report = compress(model_, out, o, pool_);
    ASSERT_EQ(report.layers.size(), 14u);
    const auto quantised = open(out);
    uint64_t bytes = 0;
    for (size_t i = 0; i < report.layers.size(); ++i) {
      const LayerPlan& l = report.plan.layers[i];
      const std::vector<float> w = decode_parallel(original->matrix(l.module, l.rows, l.cols), pool_);
      const PackedWeight packed = quantised->matrix(l.module, l.rows, l.cols);
      EXPECT_EQ(packed.format, o.format);
      const MatView<const float> view(w.data(), static_cast<size_t>(l.rows), static_cast<size_t>(l.cols));
      EXPECT_NEAR(relative_error(view, packed, pool_), report.layers[i].error, 1e-12) << l.module;
      // Worst of the families on normal weights: 4-bit with one scale per row.
      EXPECT_LT(report.layers[i].error, 0.05) << format_info(o.format).name;
      EXPECT_EQ(report.layers[i].baseline_error, report.layers[i].error);
      bytes += l.bytes_after;
    }
    EXPECT_GT(bytes, 0u);
    EXPECT_TRUE(verify_manifest(out).empty());
    EXPECT_EQ(quantised->matrix("lm_head", 320, 128).format, Format::kF32);
    EXPECT_EQ(quantised->matrix("model.embed_tokens", 320, 128).format, Format::kF32);
  }
}

TEST_F(CompressTest, PlanGivesTheSizesThatAreWritten) {
  make();
  const CompressOptions o = options(Format::kInt4, 32);
  const CompressPlan plan = plan_compression(model_, o);
  compress(model_, dir_ / "q", o, pool_);
  const io::TensorSource source = io::TensorSource::open_directory(dir_ / "q");
  EXPECT_EQ(source.total_bytes(), plan.bytes_after);
  // 4 bits and a bf16 scale for 32 weights, and the two shape numbers of each layer.
  EXPECT_NEAR(plan.bits_per_weight(), 4.5, 0.01);
  EXPECT_EQ(plan.dense, std::vector<std::string>{"lm_head"});
}

TEST_F(CompressTest, FusedLayersShareOneGlobalScale) {
  make();
  compress(model_, dir_ / "q", options(Format::kNvfp4), pool_);
  const io::TensorSource source = io::TensorSource::open_directory(dir_ / "q");
  const auto scale = [&](const std::string& module) {
    return source.get("model.layers.0." + module + ".weight_global_scale").to_f32().at(0);
  };
  EXPECT_EQ(scale("self_attn.q_proj"), scale("self_attn.k_proj"));
  EXPECT_EQ(scale("self_attn.q_proj"), scale("self_attn.v_proj"));
  EXPECT_EQ(scale("mlp.gate_proj"), scale("mlp.up_proj"));
  EXPECT_NE(scale("self_attn.q_proj"), scale("self_attn.o_proj"));
}

TEST_F(CompressTest, SameBytesForAnyNumberOfThreads) {
  make();
  const auto hash = [&](int threads) {
    ThreadPool pool(threads);
    CompressOptions o = options(Format::kNvfp4);
    o.overwrite = Overwrite::kYes;
    compress(model_, dir_ / "q", o, pool);
    const Json manifest = parse_json_file(dir_ / "q/fettle-manifest.json");
    return manifest.find("files")->dump();
  };
  EXPECT_EQ(hash(1), hash(3));
}

TEST_F(CompressTest, MoeExpertsAreQuantisedAndRoutersAreNot) {
  for (const char* arch : {"qwen3_moe", "mixtral"}) {
    make(arch);
    CompressOptions o = options(Format::kMxfp4);
    o.overwrite = Overwrite::kYes;
    const CompressReport report = compress(model_, dir_ / "q", o, pool_);
    const auto source = open(dir_ / "q");
    const models::ModelConfig& c = source->config();
    EXPECT_EQ(source->expert("model.layers.1.mlp.experts", 2, "up_proj", c.moe_intermediate_size, c.hidden_size).format,
              Format::kMxfp4);
    EXPECT_EQ(source->matrix("model.layers.1.mlp.gate", c.num_experts, c.hidden_size).format, Format::kF32);
    EXPECT_EQ(report.plan.dense.size(), 3u) << "two routers and the head";
  }
}

TEST_F(CompressTest, IgnoredModulesStayDense) {
  make();
  CompressOptions o = options(Format::kInt8);
  o.ignore = {"re:.*down_proj", "model.layers.0.self_attn.q_proj"};
  const CompressReport report = compress(model_, dir_ / "q", o, pool_);
  EXPECT_EQ(report.layers.size(), 11u);
  EXPECT_EQ(open(dir_ / "q")->matrix("model.layers.1.mlp.down_proj", 128, 256).format, Format::kF32);
}

TEST_F(CompressTest, SideFilesAreCopiedAndConfigKeepsItsKeys) {
  make();
  write_file_atomic(model_ + "/NOTICE.txt", "words");
  Json config = parse_json_file(model_ + "/config.json");
  config["some_future_key"] = "kept";
  write_file_atomic(model_ + "/config.json", config.dump(2));
  compress(model_, dir_ / "q", options(Format::kInt4), pool_);
  EXPECT_EQ(read_file(dir_ / "q/NOTICE.txt", 100), "words");
  EXPECT_EQ(read_file(dir_ / "q/tokenizer.json", 1 << 20), read_file(model_ + "/tokenizer.json", 1 << 20));
  const Json written = parse_json_file(dir_ / "q/config.json");
  EXPECT_EQ(written.find("some_future_key")->as_string(), "kept");
  EXPECT_EQ(written.find("quantization_config")->find("quant_method")->as_string(), "compressed-tensors");
}

TEST_F(CompressTest, RefusesWhatItCannotDo) {
  make();
  const std::string q = dir_ / "q";
  compress(model_, q, options(Format::kInt8), pool_);
  EXPECT_THAT(error_of(ErrorCode::kInput, [&] { compress(q, dir_ / "r", options(Format::kInt4), pool_); }),
              HasSubstr("unquantised"));
  EXPECT_THAT(error_of(ErrorCode::kInput, [&] { compress(model_, dir_ / "r", options(Format::kInt4, 48), pool_); }),
              AllOf(HasSubstr("48"), HasSubstr("--group-size"), HasSubstr("model.layers.0")));
  error_of(ErrorCode::kUsage, [&] { compress(model_, q, options(Format::kInt4), pool_); });
  error_of(ErrorCode::kUsage, [&] { compress(model_, model_ + "/inside", options(Format::kInt4), pool_); });
  CompressOptions o = options(Format::kInt4);
  o.overwrite = Overwrite::kYes;
  error_of(ErrorCode::kUsage, [&] { compress(model_, model_, o, pool_); });
  o.method = "magic";
  EXPECT_THAT(error_of(ErrorCode::kUsage, [&] { compress(model_, dir_ / "r", o, pool_); }), HasSubstr("rtn"));
  o.method = "rtn";
  o.ignore = {"re:.*"};
  error_of(ErrorCode::kInput, [&] { compress(model_, dir_ / "r", o, pool_); });
  for (const std::string& name : list_directory(dir_.path())) EXPECT_THAT(name, ::testing::AnyOf("model", "q"));
}

TEST_F(CompressTest, NonFiniteWeightsAreNamedWithCountAndIndex) {
  make();
  std::vector<std::pair<std::string, Tensor>> tensors;
  {
    const io::SafetensorsFile file = io::SafetensorsFile::open(model_ + "/model.safetensors");
    for (const io::TensorEntry& e : file.entries()) tensors.emplace_back(e.name, file.tensor(e.name).copy());
  }
  for (auto& [name, tensor] : tensors)
    if (name == "model.layers.1.mlp.up_proj.weight") {
      tensor.mutable_data<float>()[1234] = std::numeric_limits<float>::quiet_NaN();
      tensor.mutable_data<float>()[4000] = -std::numeric_limits<float>::infinity();
    }
  io::write_safetensors(model_ + "/model.safetensors", tensors);
  EXPECT_THAT(error_of(ErrorCode::kNumeric, [&] { compress(model_, dir_ / "q", options(Format::kInt4), pool_); }),
              AllOf(HasSubstr("model.layers.1.mlp.up_proj.weight"), HasSubstr("found 2"), HasSubstr("index 1234")));
  EXPECT_FALSE(file_exists(dir_ / "q/config.json"));
}

TEST_F(CompressTest, TensorsMustAgreeWithTheConfig) {
  make();
  Json config = parse_json_file(model_ + "/config.json");
  config["intermediate_size"] = 512;
  write_file_atomic(model_ + "/config.json", config.dump(2));
  EXPECT_THAT(error_of(ErrorCode::kInput, [&] { plan_compression(model_, options(Format::kInt4)); }),
              AllOf(HasSubstr("gate_proj"), HasSubstr("512"), HasSubstr("256")));
}

TEST_F(CompressTest, CancellingLeavesNothing) {
  make();
  CancelToken cancel;
  const LayerProgress stop = [&](size_t done, size_t, const LayerReport&) {
    if (done == 3) cancel.cancel(2);
  };
  error_of(ErrorCode::kCancelled, [&] { compress(model_, dir_ / "q", options(Format::kInt4), pool_, &cancel, stop); });
  for (const std::string& name : list_directory(dir_.path())) EXPECT_EQ(name, "model");
}

TEST(RelativeError, MatchesAHandComputedCase) {
  ThreadPool pool(1);
  const std::vector<float> w = {3, 4, 0, 0};
  const std::vector<float> q = {3, 2, 0, 0};  // error 4 of 25
  const PackedWeight packed = dense_weight(Tensor::from<float>(q, {2, 2}));
  EXPECT_DOUBLE_EQ(relative_error({w.data(), 2, 2}, packed, pool), 4.0 / 25);
}

}  // namespace
}  // namespace fettle::compress
