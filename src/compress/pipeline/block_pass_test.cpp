#include "compress/pipeline/block_pass.h"

#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "compress/pipeline/fused_scales.h"
#include "compress/synth.h"
#include "compress/test_dir.h"

namespace fettle::compress {
namespace {

using models::Stage;

std::vector<std::vector<int32_t>> random_samples(size_t n, size_t length) {
  Random random(5);
  std::vector<std::vector<int32_t>> out(n);
  for (size_t i = 0; i < n; ++i)
    for (size_t t = 0; t < length + i; ++t) out[i].push_back(static_cast<int32_t>(random.below(256)));
  return out;
}

class CountProducts : public models::LayerObserver {
 public:
  void on_input(const models::Linear& linear, MatView<const float> x) override { rows[&linear] += x.rows; }
  std::map<const models::Linear*, size_t> rows;
};

// Inputs of all stages while the weights of a stage change (here: to half of their values) before the next begins, and
// the stream behind the block.
std::vector<std::vector<float>> run(const std::string& model, BlockPass::Mode mode, const std::string& spill,
                                    ThreadPool& pool, CountProducts* count = nullptr) {
  const auto blocks = models::BlockModel::open(model, {}, pool);
  const auto samples = random_samples(3, 20);
  Stream stream(*blocks, samples, spill, pool);
  stream.observer = count;
  std::vector<std::vector<float>> out;
  models::Block block = blocks->block(0);
  BlockPass pass(stream, block, mode);
  for (const Stage stage : models::kStages) {
    pass.advance(stage);
    pass.visit(stage, [&](const StageInput& in) {
      EXPECT_EQ(in.rows.rows, block.rows(stage, samples[in.sample].size()));
      std::vector<float>& copy = out.emplace_back();
      for (size_t r = 0; r < in.rows.rows; ++r) copy.insert(copy.end(), in.rows.row(r), in.rows.row(r) + in.rows.cols);
    });
    for (const models::BlockLinear& l : block.linears()) {
      if (l.stage != stage) continue;
      const std::vector<float> w = weight_values(*l.linear);
      Tensor t = Tensor::empty(DType::kF32, {l.linear->out_features(), l.linear->in_features()});
      for (size_t k = 0; k < w.size(); ++k) t.mutable_data<float>()[k] = 0.5f * w[k];
      *l.linear = models::Linear(kernels::prepare(dense_weight(t), pool), l.linear->bias());
    }
  }
  pass.finish();
  if (count) {
    size_t tokens = 0;
    for (const auto& s : samples) tokens += s.size();
    for (const models::BlockLinear& l : block.linears()) {
      if (l.expert < 0) {
        EXPECT_EQ(count->rows[l.linear], tokens) << l.module;
      }
    }
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    const MatView<float> x = stream.x().sample(i);
    out.emplace_back(x.data, x.data + x.rows * x.cols);
  }
  return out;
}

class BlockPassTest : public ::testing::TestWithParam<const char*> {};

// Storing one tensor per stage gives the bits of starting over for every stage, and runs every product of the block
// exactly once over all tokens; so does keeping the streams in a file.
TEST_P(BlockPassTest, SegmentsEqualTheNaiveOrderAndRunEachProductOnce) {
  testing::TempDir dir;
  ThreadPool pool(2), one(1);
  synth(dir / "model", {.arch = GetParam(), .dtype = DType::kF32}, Overwrite::kYes, pool);
  CountProducts count;
  const auto naive = run(dir / "model", BlockPass::Mode::kNaive, "", pool);
  const auto segments = run(dir / "model", BlockPass::Mode::kSegments, "", pool, &count);
  EXPECT_EQ(segments, naive);
  EXPECT_EQ(run(dir / "model", BlockPass::Mode::kSegments, dir.path(), pool), naive) << "spilled";
  EXPECT_EQ(run(dir / "model", BlockPass::Mode::kSegments, "", one), naive) << "one thread";
}

INSTANTIATE_TEST_SUITE_P(Families, BlockPassTest, ::testing::Values("llama", "qwen3", "gemma2", "phi3", "mixtral"),
                         [](const auto& i) { return std::string(i.param); });

TEST(StreamStoreTest, SpilledContentsStay) {
  testing::TempDir dir;
  const StreamStore store({3, 2000}, 100, dir.path());
  for (size_t i = 0; i < 2; ++i) {
    const MatView<float> x = store.sample(i);
    for (size_t k = 0; k < x.rows * x.cols; ++k) x.data[k] = static_cast<float>(k + i);
    store.done(i);
  }
  EXPECT_EQ(store.sample(0).row(2)[99], 299.0f);
  EXPECT_EQ(store.sample(1).row(1999)[99], 200000.0f);
  EXPECT_THROW(StreamStore({1}, 1, dir.path() + "/missing"), Error);
  EXPECT_THROW(StreamStore({SIZE_MAX / 2}, 8, ""), Error);
}

}  // namespace
}  // namespace fettle::compress
