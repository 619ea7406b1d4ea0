#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "compress/compress.h"
#include "compress/method.h"
#include "compress/presinq.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "compress/weight_tools.h"
#include "io/checkpoint.h"
#include "io/checkpoint_writer.h"
#include "models/model.h"
#include "models/weight_source.h"

namespace fettle::compress {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;

class SinqModelTest : public ::testing::Test {
 protected:
  SinqModelTest() : pool_(2), model_(dir_ / "model") {}

  // A model whose columns differ in size, so that there is something to balance: norms far from 1.
  void make(const std::string& arch) {
    synth(dir_ / "even", {.arch = arch, .dtype = DType::kF32}, Overwrite::kYes, pool_);
    const io::ModelFiles files = io::resolve_model(dir_ / "even");
    const io::TensorSource source = io::TensorSource::open(files);
    OutputDir out(model_, Overwrite::kYes);
    std::vector<io::TensorSpec> specs;
    for (const io::TensorEntry* e : source.entries()) specs.push_back({e->name, *e->dtype, e->shape});
    io::CheckpointWriter writer(out, specs);
    uint64_t seed = 0;
    for (const io::TensorEntry* e : source.entries()) {
      std::vector<float> values = source.get(e->name).to_f32();
      Random random(++seed);
      const bool matrix = e->shape.size() == 2 && e->name.find("layers.") != std::string::npos;
      std::vector<float> columns(static_cast<size_t>(e->shape.back()));
      for (float& c : columns) c = std::exp(0.5f * random.normal());
      for (size_t i = 0; i < values.size(); ++i)
        if (matrix)
          values[i] *= columns[i % columns.size()];
        else if (e->name.ends_with("norm.weight") || e->name.ends_with(".bias"))
          values[i] += 0.2f * random.normal();
      writer.write(e->name, Tensor::from<float>(values, e->shape));
    }
    writer.finish();
    write_file_atomic(out.file("config.json"), read_file(files.at("config.json"), 1 << 20));
    out.commit();
  }

  std::vector<float> logits(const std::string& path) {
    const auto model = models::Model::load(path, {}, pool_);
    const kv::KvLayout layout = model->kv_layout(DType::kF32);
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 24; ++i) tokens.push_back((i * 37 + 11) % 251);
    kv::KvCache cache(layout, kv::budget_for(layout, tokens.size(), 1));
    const kv::SeqId seq = cache.create();
    EXPECT_TRUE(cache.reserve(seq, tokens.size()));
    auto scratch = models::make_scratch();
    const models::SeqTokens run{seq, tokens};
    const auto out = model->forward({&run, 1}, models::LogitRows::kAll, cache, *scratch, pool_);
    std::vector<float> values;
    for (size_t r = 0; r < out.rows; ++r) values.insert(values.end(), out.row(r), out.row(r) + out.cols);
    return values;
  }

  TempDir dir_;
  ThreadPool pool_;
  std::string model_;
};

TEST_F(SinqModelTest, FoldingLeavesTheLogitsOfEveryFamily) {
  for (const char* arch :
       {"llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3_text", "mixtral", "qwen3_moe"}) {
    SCOPED_TRACE(arch);
    make(arch);
    fold_model(model_, dir_ / "folded", {.overwrite = Overwrite::kYes}, pool_);
    const std::vector<float> want = logits(model_), got = logits(dir_ / "folded");
    ASSERT_EQ(got.size(), want.size());
    float largest = 0;
    for (const float v : want) largest = std::max(largest, std::fabs(v));
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-4 * largest) << i;
    // Something did change.
    const io::TensorSource a = io::TensorSource::open_directory(model_),
                           b = io::TensorSource::open_directory(dir_ / "folded");
    EXPECT_NE(a.get("model.layers.0.input_layernorm.weight").to_f32(),
              b.get("model.layers.0.input_layernorm.weight").to_f32());
  }
}

TEST_F(SinqModelTest, FoldingRefusesMatricesItDoesNotKnow) {
  make("llama");
  const io::ModelFiles files = io::resolve_model(model_);
  const io::TensorSource source = io::TensorSource::open(files);
  OutputDir out(dir_ / "odd", Overwrite::kYes);
  std::vector<io::TensorSpec> specs;
  for (const io::TensorEntry* e : source.entries()) specs.push_back({e->name, *e->dtype, e->shape});
  specs.push_back({"model.layers.0.mlp.shared_expert.up_proj.weight", DType::kF32, {8, 128}});
  io::CheckpointWriter writer(out, specs);
  for (const io::TensorEntry* e : source.entries()) writer.write(e->name, source.get(e->name));
  writer.write("model.layers.0.mlp.shared_expert.up_proj.weight", Tensor::zeros(DType::kF32, {8, 128}));
  writer.finish();
  write_file_atomic(out.file("config.json"), read_file(files.at("config.json"), 1 << 20));
  out.commit();
  try {
    fold_model(dir_ / "odd", dir_ / "folded", {}, pool_);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("shared_expert.up_proj"));
  }
}

// The file loads back to the numbers that were reported, better than rounding alone, and the model runs.
TEST_F(SinqModelTest, SinqLoadsBackInEveryFormat) {
  make("llama");
  const std::vector<float> original = logits(model_);
  const auto source = models::open_hf_weights(io::resolve_model(model_), pool_);
  double last = 0;
  for (const Format format : {Format::kInt8, Format::kInt4, Format::kInt3, Format::kInt2, Format::kNF4, Format::kNvfp4,
                              Format::kMxfp4, Format::kFp8}) {
    SCOPED_TRACE(format_info(format).name);
    CompressOptions o;
    o.method = "sinq";
    o.format = format;
    o.overwrite = Overwrite::kYes;
    if (format == Format::kInt8 || format == Format::kInt4) o.numbers.group_size = 64;
    o.numbers.symmetric = !(format == Format::kInt4 || format == Format::kInt3 || format == Format::kInt2);
    const CompressReport report = compress(model_, dir_ / "q", o, pool_);
    EXPECT_EQ(io::TensorSource::open_directory(dir_ / "q").total_bytes(), report.plan.bytes_after);
    const auto back = models::open_hf_weights(io::resolve_model(dir_ / "q"), pool_);
    double error = 0, baseline = 0;
    for (size_t i = 0; i < report.layers.size(); ++i) {
      const LayerPlan& l = report.plan.layers[i];
      const std::vector<float> w = decode_parallel(source->matrix(l.module, l.rows, l.cols), pool_);
      const PackedWeight packed = back->matrix(l.module, l.rows, l.cols);
      EXPECT_EQ(packed.format, format);
      EXPECT_EQ(packed.input.col_scales.numel(), l.cols);
      const MatView<const float> view(w.data(), static_cast<size_t>(l.rows), static_cast<size_t>(l.cols));
      EXPECT_NEAR(relative_error(view, packed, pool_), report.layers[i].error, 1e-9) << l.module;
      error += report.layers[i].error;
      baseline += report.layers[i].baseline_error;
    }
    if (format == Format::kInt4 || format == Format::kInt3 || format == Format::kInt2) {
      EXPECT_LT(error, 0.9 * baseline);
    }
    const std::vector<float> got = logits(dir_ / "q");
    double difference = 0, size = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      difference += std::pow(static_cast<double>(got[i]) - static_cast<double>(original[i]), 2);
      size += std::pow(static_cast<double>(original[i]), 2);
    }
    EXPECT_LT(difference, (format == Format::kInt2 ? 1.5 : 0.5) * size);
    if (format == Format::kInt4 || format == Format::kInt3) {
      EXPECT_GT(difference, last);
    }
    last = difference;
  }
}

TEST_F(SinqModelTest, KurtosisGateStoresFactorsOfOne) {
  make("llama");
  CompressOptions o;
  o.method = "sinq";
  o.numbers.group_size = 64;
  o.kurtosis_gate = 1.0;  // every matrix is above
  const CompressReport report = compress(model_, dir_ / "q", o, pool_);
  for (const LayerReport& l : report.layers) EXPECT_EQ(l.error, l.baseline_error);
  const io::TensorSource q = io::TensorSource::open_directory(dir_ / "q");
  EXPECT_EQ(q.get("model.layers.0.mlp.up_proj.weight_col_scale").to_f32(), std::vector<float>(128, 1.0f));
}

}  // namespace
}  // namespace fettle::compress
