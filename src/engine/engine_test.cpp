#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/utf8.h"

namespace fettle::engine {
namespace {

// stories260K (models/README of the tests): the published greedy continuation of an empty prompt.
constexpr const char* kStory =
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, "
    "red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily "
    "was "
    "sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily was sad "
    "and "
    "didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to help her "
    "mom, so "
    "she said, \"I'm sorry, mom. I didn't know what to do.\" Her mom said, \"Don't worry, Lily. We can help you.";

class EngineTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    pool_ = std::make_unique<ThreadPool>(2);
    llm_ = Llm::load(std::string(FETTLE_TEST_DATA) + "/models/stories260K", {}, *pool_);
  }
  static void TearDownTestSuite() {
    llm_.reset();
    pool_.reset();
  }
  static Request greedy(std::string_view prompt, int max_tokens) {
    Request r;
    r.prompt = llm_->tokenizer().encode(prompt);
    r.sampling.temperature = 0;
    r.max_tokens = max_tokens;
    return r;
  }
  static Request sampled(std::string_view prompt, int max_tokens, int64_t seed) {
    Request r = greedy(prompt, max_tokens);
    r.sampling.temperature = 1;
    r.sampling.seed = seed;
    return r;
  }
  static Engine engine(EngineOptions options = {}) { return Engine(llm_, options, *pool_); }

  static std::unique_ptr<ThreadPool> pool_;
  static std::shared_ptr<const Llm> llm_;
};
std::unique_ptr<ThreadPool> EngineTest::pool_;
std::shared_ptr<const Llm> EngineTest::llm_;

TEST_F(EngineTest, WritesThePublishedStory) {
  EngineOptions options;
  options.kv_dtype = DType::kF32;
  Engine e = engine(options);
  const Result result = e.run(greedy("", 256));
  const std::string_view want(kStory);
  EXPECT_EQ(result.text.substr(0, want.size()), want);
}

TEST_F(EngineTest, ResultsDoNotDependOnTheBatchOrTheChunk) {
  const std::vector<std::string> prompts = {"Once upon a time", "The dog", "Lily saw a big red ball and", "",
                                            "Tom and his mom"};
  std::vector<std::vector<int32_t>> alone;
  for (size_t i = 0; i < prompts.size(); ++i)
    alone.push_back(engine().run(sampled(prompts[i], 40, static_cast<int64_t>(i))).tokens);
  for (size_t max_seqs : {2, 8})
    for (size_t chunk : {1, 3, 512}) {
      EngineOptions options;
      options.max_seqs = max_seqs;
      options.prefill_chunk = chunk;
      Engine e = engine(options);
      std::vector<RequestId> ids;
      for (size_t i = 0; i < prompts.size(); ++i)
        ids.push_back(e.submit(sampled(prompts[i], 40, static_cast<int64_t>(i))));
      while (e.step()) {
      }
      for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(e.take(ids[i]).tokens, alone[i]) << i << " chunk " << chunk;
    }
}

TEST_F(EngineTest, StreamedPiecesJoinToTheText) {
  Engine e = engine();
  Request r = greedy("Once", 60);
  std::string streamed;
  r.on_text = [&](std::string_view text, int32_t) {
    EXPECT_TRUE(utf8::is_valid(text));
    streamed += text;
    return true;
  };
  EXPECT_EQ(e.run(std::move(r)).text, streamed);
  EXPECT_FALSE(streamed.empty());
}

TEST_F(EngineTest, StopStringEndsTheTextBeforeIt) {
  Engine e = engine();
  Request r = greedy("", 200);
  r.stop = {"named Lily", "never"};
  const Result result = e.run(std::move(r));
  EXPECT_EQ(result.text, "Once upon a time, there was a little girl ");
  EXPECT_EQ(result.finish_reason, FinishReason::kStop);
}

TEST_F(EngineTest, ContextFullEndsWithLength) {
  EngineOptions options;
  options.context = 20;
  Engine e = engine(options);
  Request r = greedy("Once upon a time", -1);
  const size_t prompt = r.prompt.size();
  const Result result = e.run(std::move(r));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_EQ(prompt + result.tokens.size(), 20u);
  EXPECT_EQ(e.run(greedy("Once", 3)).tokens.size(), 3u);
}

TEST_F(EngineTest, RefusesPromptsThatDoNotFitAndBadValues) {
  EngineOptions options;
  options.context = 8;
  Engine e = engine(options);
  try {
    e.submit(greedy("Once upon a time there was a dog and a cat", 5));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResource);
    EXPECT_NE(std::string(error.what()).find("context holds 8"), std::string::npos) << error.what();
  }
  Request r = greedy("Once", 5);
  r.sampling.top_p = 0;
  EXPECT_THROW(e.submit(r), Error);
  r = greedy("Once", 5);
  r.stop = {""};
  EXPECT_THROW(e.submit(r), Error);
}

TEST_F(EngineTest, CancelledRequestsEndAndOthersGoOn) {
  Engine e = engine();
  const RequestId a = e.submit(greedy("Once", 100)), b = e.submit(greedy("The", 20));
  for (int i = 0; i < 5; ++i) e.step();
  e.cancel(a);
  e.cancel(a);
  while (e.step()) {
  }
  EXPECT_EQ(e.take(a).finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(e.take(b).tokens.size(), 20u);
  Request r = greedy("Once", 100);
  int seen = 0;
  r.on_text = [&](std::string_view, int32_t) { return ++seen < 4; };
  EXPECT_EQ(e.run(std::move(r)).finish_reason, FinishReason::kCancelled);
}

TEST_F(EngineTest, MemoryForOneSequenceQueuesTheOthers) {
  EngineOptions options;
  options.context = 64;
  options.kv_bytes = kv::budget_for(llm_->model().kv_layout(options.kv_dtype), 64, 1);
  Engine e = engine(options);
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(e.submit(greedy("Once", -1)));
  while (e.step()) {
  }
  for (RequestId id : ids) EXPECT_EQ(e.take(id).finish_reason, FinishReason::kLength);
}

}  // namespace
}  // namespace fettle::engine
