#include "compress/pipeline/smoothing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "compress/pipeline/fused_scales.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "io/safetensors.h"
#include "models/model.h"

namespace fettle::compress {
namespace {

class SmoothingTest : public ::testing::TestWithParam<const char*> {
 protected:
  SmoothingTest() : pool_(2), model_(dir_ / "model") {}
  void make(const std::string& arch) {
    synth(model_, {.arch = arch, .dtype = DType::kBF16}, Overwrite::kYes, pool_);
    // Inputs of very different size behind the norms: what scaling is for.
    const std::string path = path_join(model_, "model.safetensors");
    std::vector<std::pair<std::string, Tensor>> tensors;
    {
      const io::SafetensorsFile file = io::SafetensorsFile::open(path);
      for (const io::TensorEntry& e : file.entries()) {
        Tensor t = file.tensor(e.name).copy();
        if (e.name.ends_with("layernorm.weight"))
          for (int64_t i = 0; i < t.numel(); i += 7) t.mutable_data<uint16_t>()[i] += 3 << 7;  // times 8
        tensors.emplace_back(e.name, std::move(t));
      }
    }
    io::write_safetensors(path, tensors);
  }
  static PipelineOptions options(const std::string& method) {
    PipelineOptions o;
    o.compress.method = method;
    o.compress.numbers.group_size = 32;
    o.calibration = {"self", 4, 48, 1};
    use_method(&o, method);
    return o;
  }
  std::vector<std::vector<int32_t>> samples() const {
    std::vector<std::vector<int32_t>> out(3);
    for (size_t i = 0; i < out.size(); ++i)
      for (int32_t t = 0; t < 40; ++t) out[i].push_back((t * 7 + static_cast<int32_t>(i) * 31) % 200 + 3);
    return out;
  }

  testing::TempDir dir_;
  ThreadPool pool_;
  std::string model_;
};

// The scaled block gives the same stream as before, for every family and both ways of scaling.
TEST_P(SmoothingTest, TheBlockComputesTheSameFunction) {
  make(GetParam());
  for (const char* method : {"awq", "smoothquant"}) {
    PipelineOptions o = options(method);
    const CompressPlan plan = plan_compression(model_, o.compress);
    std::map<std::string, const LayerPlan*> by_module;
    for (const LayerPlan& l : plan.layers) by_module[l.module] = &l;
    const io::ModelFiles files = io::resolve_model(model_);
    const io::TensorSource source = io::TensorSource::open(files);
    const auto tokens = samples();
    const auto model = models::BlockModel::open(model_, {.context = 64}, pool_);
    Stream before(*model, tokens, "", pool_), after(*model, tokens, "", pool_);
    size_t scaled = 0;
    for (int b = 0; b < 2; ++b) {
      models::Block block = model->block(b), other = model->block(b), plain = model->block(b);
      std::map<std::string, Tensor> replaced;
      const auto stored = [&](const std::string& name) { return model->stored_name(name); };
      const auto plan_of = [&](const std::string& m) {
        const auto it = by_module.find(stored(m));
        return it == by_module.end() ? nullptr : it->second;
      };
      const BlockScales scales = smooth_block({o, after, block, &other, plan_of, stored, source}, &replaced);
      for (const auto& [stage, s] : scales)
        for (const float v : s.scales) scaled += std::fabs(v - 1) > 0.05f;
      before.forward(plain);
      after.forward(block);
      for (size_t i = 0; i < tokens.size(); ++i) {
        const MatView<float> x = before.x().sample(i), y = after.x().sample(i);
        double error = 0, energy = 0;
        for (size_t j = 0; j < x.rows * x.cols; ++j) {
          error += std::pow(static_cast<double>(x.data[j] - y.data[j]), 2);
          energy += std::pow(static_cast<double>(x.data[j]), 2);
        }
        EXPECT_LT(error, 1e-9 * energy) << method << " block " << b;  // F32 round-off, 3e-5 of the stream
      }
      // The float stream's copy got the same weights.
      for (size_t l = 0; l < block.linears().size(); ++l)
        EXPECT_EQ(weight_values(*block.linears()[l].linear), weight_values(*other.linears()[l].linear));
    }
    EXPECT_GT(scaled, 0u) << method << " left everything as it was";
  }
}

INSTANTIATE_TEST_SUITE_P(Families, SmoothingTest, ::testing::Values("llama", "qwen3", "gemma2", "phi3", "mixtral"),
                         [](const auto& i) { return std::string(i.param); });

// The written model is whole, and behind outlier channels scaling is better than rounding without it.
TEST_F(SmoothingTest, BeatsRoundingBehindOutliers) {
  make("llama");
  for (const char* method : {"awq", "smoothquant"}) {
    const PipelineReport r = run_pipeline(model_, dir_ / method, options(method), pool_);
    models::Model::load(dir_ / method, {.strict = true}, pool_);
    if (std::string(method) == "awq") {
      EXPECT_LT(r.mean_objective(), 0.9 * r.mean_rtn_objective());
    }
  }
}

TEST_F(SmoothingTest, StacksWithSecondOrderRounding) {
  make("llama");
  PipelineOptions o = options("gptq");
  const double plain = run_pipeline(model_, dir_ / "plain", o, pool_).mean_objective();
  o.smoothing = Smoothing::kAwq;
  EXPECT_LT(run_pipeline(model_, dir_ / "awq", o, pool_).mean_objective(), plain);
  o.compress.method = "qronos";
  run_pipeline(model_, dir_ / "qronos", o, pool_);
  models::Model::load(dir_ / "qronos", {.strict = true}, pool_);
}

// A router reads the norm too: left alone, and said.
TEST_F(SmoothingTest, RoutersKeepTheirInput) {
  make("mixtral");
  size_t noted = 0;
  for (const RoundedLayer& l : run_pipeline(model_, dir_ / "out", options("awq"), pool_).layers)
    noted += l.note.find("router") != std::string::npos;
  EXPECT_EQ(noted, 2u * 4u * 2u);  // gate and up of four experts in two blocks
}

}  // namespace
}  // namespace fettle::compress
