// The same model from safetensors and from its GGUF export: logits, greedy text. Weights and KV in F32.
#include <gtest/gtest.h>

#include <cmath>

#include "compress/convert.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "engine/engine.h"

namespace fettle {
namespace {

class Containers : public testing::Test {
 protected:
  Containers() : pool_(2) {}

  std::string exported(const std::string& model) {
    const std::string file = dir_ / "model.gguf";
    compress::convert(model, file, {.type = "f32", .overwrite = Overwrite::kYes}, pool_);
    return file;
  }

  void expect_same_logits(const engine::Llm& a, const engine::Llm& b) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 48; ++i)
      tokens.push_back((i * 37 + 5) % static_cast<int32_t>(a.model().config().vocab_size));
    engine::LogitStream x(a.model(), pool_, 64, DType::kF32), y(b.model(), pool_, 64, DType::kF32);
    const MatView<const float> p = x.feed(tokens, models::LogitRows::kAll), q = y.feed(tokens, models::LogitRows::kAll);
    ASSERT_EQ(p.cols, q.cols);
    for (size_t t = 0; t < p.rows; ++t)
      for (size_t v = 0; v < p.cols; ++v)
        ASSERT_NEAR(p.row(t)[v], q.row(t)[v], 1e-4f * std::max(1.0f, std::fabs(p.row(t)[v])))
            << "position " << t << ", token " << v;
  }

  std::string greedy(std::shared_ptr<const engine::Llm> llm) {
    engine::EngineOptions options;
    options.kv_dtype = DType::kF32;
    engine::Engine e(llm, options, pool_);
    engine::Request r;
    r.prompt = llm->tokenizer().encode("");
    r.sampling.temperature = 0;
    r.max_tokens = 256;
    return e.run(std::move(r)).text;
  }

  compress::testing::TempDir dir_;
  ThreadPool pool_;
};

TEST_F(Containers, StoriesFromGgufWriteTheSameText) {
  const std::string model = std::string(FETTLE_TEST_DATA) + "/models/stories260K";
  const auto hf = engine::Llm::load(model, {}, pool_);
  const auto gguf = engine::Llm::load(exported(model), {}, pool_);
  expect_same_logits(*hf, *gguf);
  const std::string text = greedy(gguf);
  EXPECT_EQ(text, greedy(hf));
  EXPECT_EQ(text.substr(0, 60), "Once upon a time, there was a little girl named Lily. She lo");
}

TEST_F(Containers, EveryFamilyHasTheSameLogitsFromGguf) {
  const std::string model = dir_ / "hf";
  for (const compress::SynthShape& shape : compress::synth_shapes()) {
    if (shape.params != "tiny") continue;
    SCOPED_TRACE(shape.arch);
    compress::synth(model, {.arch = shape.arch, .params = shape.params, .dtype = DType::kF32}, Overwrite::kYes, pool_);
    const auto hf = engine::Llm::load(model, {}, pool_);
    const auto gguf = engine::Llm::load(exported(model), {}, pool_);
    expect_same_logits(*hf, *gguf);
  }
}

}  // namespace
}  // namespace fettle
