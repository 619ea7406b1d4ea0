// stories260K against llama.cpp (specs/30 acceptance 3): token ids, log-sum-exp and log-probabilities at every
// position, the five most probable tokens, greedy continuations, perplexity. Weights and KV in F32.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "engine/engine.h"
#include "kernels/elementwise.h"

namespace fettle {
namespace {

std::vector<std::string> vector_files() {
  std::vector<std::string> out;
  std::vector<std::string> roots = {std::string(FETTLE_TEST_DATA) + "/vectors"};
  if (const char* extra = std::getenv("FETTLE_VECTORS_DIR")) roots.emplace_back(extra);
  for (const std::string& root : roots) {
    const std::string dir = path_join(root, "ecosystem");
    if (!is_directory(dir)) continue;
    for (const std::string& name : list_directory(dir))
      if (name.ends_with("_llamacpp.json")) out.push_back(path_join(dir, name));
  }
  return out;
}

class ModelGolden : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    pool_ = std::make_unique<ThreadPool>(2);
    llm_ = engine::Llm::load(std::string(FETTLE_TEST_DATA) + "/models/stories260K", {}, *pool_);
  }
  static void TearDownTestSuite() {
    llm_.reset();
    pool_.reset();
  }
  static std::unique_ptr<ThreadPool> pool_;
  static std::shared_ptr<const engine::Llm> llm_;
};
std::unique_ptr<ThreadPool> ModelGolden::pool_;
std::shared_ptr<const engine::Llm> ModelGolden::llm_;

std::vector<int32_t> ids(const Json& list) {
  std::vector<int32_t> out;
  for (const Json& v : list.as_array()) out.push_back(static_cast<int32_t>(v.as_int()));
  return out;
}

void check_positions(const Json& run, engine::LogitStream& stream) {
  stream.reset();
  const std::vector<int32_t> tokens = ids(*run.find("tokens"));
  const MatView<const float> logits = stream.feed(tokens, models::LogitRows::kAll);
  for (const Json& want : run.find("logprobs")->as_array()) {
    const auto pos = static_cast<size_t>(want.find("pos")->as_int());
    const std::span<const float> row(logits.row(pos), logits.cols);
    const double lse = static_cast<double>(kernels::log_sum_exp(row));
    EXPECT_NEAR(lse, want.find("lse")->as_double(), 2e-4) << "position " << pos;
    if (!want.find("next")->is_null()) {
      const auto next = static_cast<size_t>(want.find("next")->as_int());
      EXPECT_NEAR(static_cast<double>(row[next]) - lse, want.find("logprob")->as_double(), 2e-4) << "position " << pos;
    }
    for (const Json& top : want.find("top")->as_array())
      EXPECT_NEAR(static_cast<double>(row[static_cast<size_t>(top[0].as_int())]) - lse, top[1].as_double(), 2e-4)
          << "position " << pos << " token " << top[0].as_int();
  }
}

TEST_F(ModelGolden, IdsLogprobsAndGreedyTextEqualLlamaCpp) {
  const std::vector<std::string> files = vector_files();
  ASSERT_FALSE(files.empty()) << "no *_llamacpp.json found";
  engine::LogitStream stream(llm_->model(), *pool_, 512, DType::kF32);
  engine::EngineOptions options;
  options.kv_dtype = DType::kF32;
  engine::Engine engine(llm_, options, *pool_);
  for (const std::string& file : files) {
    const Json json = parse_json_file(file, {size_t{64} << 20, 64});
    const Json::Array& prompts = json.find("prompts")->as_array();
    const Json::Array& runs = json.find("runs")->as_array();
    ASSERT_EQ(prompts.size(), runs.size()) << file;
    for (size_t i = 0; i < runs.size(); ++i) {
      SCOPED_TRACE(file + " prompt " + prompts[i].as_string());
      EXPECT_EQ(llm_->tokenizer().encode(prompts[i].as_string()), ids(*runs[i].find("tokens")));
      check_positions(runs[i], stream);
      engine::Request request;
      request.prompt = ids(*runs[i].find("tokens"));
      request.sampling.temperature = 0;
      const std::vector<int32_t> want = ids(*runs[i].find("generated"));
      request.max_tokens = static_cast<int>(want.size());
      request.ignore_eos = true;
      EXPECT_EQ(engine.run(request).tokens, want);
    }
  }
}

// Windows of ctx tokens, the first token replaced by BOS, predictions of the second half scored (specs/30 section 7.2).
double window_nll(engine::LogitStream& stream, std::vector<int32_t> window, int32_t bos) {
  window[0] = bos;
  stream.reset();
  const MatView<const float> logits = stream.feed(window, models::LogitRows::kAll);
  double nll = 0;
  for (size_t i = window.size() / 2; i + 1 < window.size(); ++i) {
    const std::span<const float> row(logits.row(i), logits.cols);
    nll +=
        static_cast<double>(kernels::log_sum_exp(row)) - static_cast<double>(row[static_cast<size_t>(window[i + 1])]);
  }
  return nll;
}

TEST_F(ModelGolden, RunningPerplexityEqualsLlamaCpp) {
  const text::Tokenizer& tokenizer = llm_->tokenizer();
  const std::string text = read_file(std::string(FETTLE_TEST_DATA) + "/text/wikitext-2-valid-head.txt", 1 << 20);
  // The words "<unk>" of this corpus are text, not the control token.
  const std::vector<int32_t> tokens = tokenizer.encode(text, {.add_special = true, .parse_special = false});
  ASSERT_TRUE(tokenizer.bos().has_value());
  for (const std::string& file : vector_files()) {
    const Json json = parse_json_file(file, {size_t{64} << 20, 64});
    const Json& want = *json.find("perplexity");
    if (want.find("text")->as_string() != "data/wikitext-2/valid.txt") continue;
    const auto ctx = static_cast<size_t>(want.find("ctx")->as_int());
    engine::LogitStream stream(llm_->model(), *pool_, ctx, DType::kF32);
    double nll = 0;
    size_t scored = 0;
    for (size_t w = 0; w < want.find("running")->size() && (w + 1) * ctx <= tokens.size(); ++w) {
      const auto begin = tokens.begin() + static_cast<ptrdiff_t>(w * ctx);
      nll += window_nll(stream, {begin, begin + static_cast<ptrdiff_t>(ctx)}, *tokenizer.bos());
      scored += ctx - ctx / 2 - 1;
      const double running = (*want.find("running"))[w].as_double();
      EXPECT_NEAR(std::exp(nll / static_cast<double>(scored)) / running, 1.0, 1e-4) << file << " window " << w;
    }
    EXPECT_GT(scored, 0u);
  }
}

}  // namespace
}  // namespace fettle
