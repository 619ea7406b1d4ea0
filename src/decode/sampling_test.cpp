#include "decode/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/random.h"

namespace fettle::decoding {
namespace {

SamplingParams plain(float temperature) {
  SamplingParams p;
  p.temperature = temperature;
  p.top_k = 0;
  p.top_p = 1;
  p.min_p = 0;
  p.seed = 7;
  return p;
}

std::set<int32_t> support(const SamplingParams& p, const std::vector<float>& logits, int draws = 4000) {
  Sampler sampler(p, static_cast<int64_t>(logits.size()));
  std::set<int32_t> seen;
  for (int i = 0; i < draws; ++i) {
    std::vector<float> copy = logits;
    seen.insert(sampler.sample(copy, {}, static_cast<uint64_t>(i)));
  }
  return seen;
}

std::vector<float> log_probs(std::initializer_list<double> probs) {
  std::vector<float> out;
  for (double p : probs) out.push_back(static_cast<float>(std::log(p)));
  return out;
}

TEST(Sampler, GreedyTakesLowestIdOnTies) {
  std::vector<float> logits = {1, 3, 3, 2};
  EXPECT_EQ(Sampler(plain(0), 4).sample(logits, {}, 0), 1);
}

TEST(Sampler, SupportsEqualTheirDefinitions) {
  const std::vector<float> logits = log_probs({0.1, 0.4, 0.05, 0.25, 0.2});
  SamplingParams p = plain(1);
  p.top_k = 2;
  EXPECT_EQ(support(p, logits), (std::set<int32_t>{1, 3}));
  p = plain(1);
  p.top_p = 0.8f;  // 0.4 + 0.25 + 0.2 reaches it
  EXPECT_EQ(support(p, logits), (std::set<int32_t>{1, 3, 4}));
  p = plain(1);
  p.min_p = 0.2f;  // p >= 0.08
  EXPECT_EQ(support(p, logits), (std::set<int32_t>{0, 1, 3, 4}));
  p.logit_bias = {{1, -100.0f}, {3, -100.0f}};
  EXPECT_EQ(support(p, logits), (std::set<int32_t>{0, 2, 4}));
}

TEST(Sampler, DrawsFollowTheDistribution) {  // chi-square, 4 degrees of freedom, p = 1e-4 at 23.5
  const std::vector<double> probs = {0.1, 0.4, 0.05, 0.25, 0.2};
  const std::vector<float> logits = log_probs({0.1, 0.4, 0.05, 0.25, 0.2});
  Sampler sampler(plain(1), 5);
  constexpr int kDraws = 100000;
  std::map<int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> copy = logits;
    ++counts[sampler.sample(copy, {}, static_cast<uint64_t>(i))];
  }
  double chi2 = 0;
  for (int i = 0; i < 5; ++i) {
    const double want = probs[static_cast<size_t>(i)] * kDraws;
    chi2 += (counts[i] - want) * (counts[i] - want) / want;
  }
  EXPECT_LT(chi2, 23.5);
}

TEST(Sampler, SameSeedSameDrawsAndChoicesDiffer) {
  std::vector<float> logits(1000);
  Random random(1);
  for (float& x : logits) x = random.normal();
  const auto draw = [&](uint32_t choice) {
    Sampler sampler(plain(1), 1000, choice);
    std::vector<int32_t> out;
    for (uint64_t i = 0; i < 50; ++i) {
      std::vector<float> copy = logits;
      out.push_back(sampler.sample(copy, {}, i));
    }
    return out;
  };
  EXPECT_EQ(draw(0), draw(0));
  EXPECT_NE(draw(0), draw(1));
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
  SamplingParams p = plain(0);
  p.repetition_penalty = 2;
  const std::vector<int32_t> history = {0, 0, 1};
  std::vector<float> logits = {4, -1, 1.5f, 0};
  EXPECT_EQ(Sampler(p, 4).sample(logits, history, 0), 0);
  EXPECT_EQ(logits, (std::vector<float>{2, -2, 1.5f, 0}));
  p = plain(0);
  p.frequency_penalty = 1;
  p.presence_penalty = 0.5f;
  logits = {4, 3, 1, 0};
  Sampler(p, 4).sample(logits, history, 0);
  EXPECT_EQ(logits, (std::vector<float>{1.5f, 1.5f, 1, 0}));
  p.penalty_last_n = 1;
  logits = {4, 3, 1, 0};
  Sampler(p, 4).sample(logits, history, 0);
  EXPECT_EQ(logits, (std::vector<float>{4, 1.5f, 1, 0}));
}

TEST(Sampler, RefusesNonFiniteLogitsAndEmptySupport) {
  std::vector<float> bad = {0, NAN};
  EXPECT_THROW(Sampler(plain(1), 2).sample(bad, {}, 0), Error);
  bad = {0, INFINITY};
  EXPECT_THROW(Sampler(plain(0), 2).sample(bad, {}, 0), Error);
  bad = {-INFINITY, -INFINITY};
  EXPECT_THROW(Sampler(plain(0), 2).sample(bad, {}, 0), Error);
  EXPECT_THROW(Sampler(plain(1), 2).sample(bad, {}, 0), Error);
}

TEST(Sampler, RefusesParametersOutOfRange) {
  const auto refused = [](auto change) {
    SamplingParams p = plain(1);
    change(p);
    EXPECT_THROW(validate(p, 10), Error);
  };
  refused([](auto& p) { p.temperature = -1; });
  refused([](auto& p) { p.temperature = NAN; });
  refused([](auto& p) { p.top_p = 0; });
  refused([](auto& p) { p.min_p = 2; });
  refused([](auto& p) { p.top_k = -2; });
  refused([](auto& p) { p.repetition_penalty = 0; });
  refused([](auto& p) { p.presence_penalty = 3; });
  refused([](auto& p) { p.logit_bias = {{10, 0.0f}}; });
  refused([](auto& p) { p.logit_bias = {{1, 101.0f}}; });
}

}  // namespace
}  // namespace fettle::decoding
