// Properties of every sampler: supports against their definitions written as plain loops, ties, invariances, off
// values, permutation of the vocabulary, draws against the exact law.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "decode/logprobs.h"
#include "decode/samplers/eta.h"
#include "decode/samplers/guidance.h"
#include "decode/samplers/min_p.h"
#include "decode/samplers/no_repeat_ngram.h"
#include "decode/samplers/registry.h"
#include "decode/samplers/tail_free.h"
#include "decode/samplers/temperature.h"
#include "decode/samplers/top_k.h"
#include "decode/samplers/top_n_sigma.h"
#include "decode/samplers/top_p.h"
#include "decode/samplers/typical.h"
#include "decode/samplers/xtc.h"
#include "decode/sampling.h"

namespace fettle::decoding {
namespace {

using Row = std::vector<float>;

// Every sampler off: each test switches on what it is about.
SamplingParams all_off(float temperature = 1) {
  SamplingParams p;
  p.temperature = temperature;
  p.top_k = 0;
  p.top_p = 1;
  p.min_p = 0;
  p.seed = 11;
  return p;
}

Row random_row(uint64_t seed, size_t n, bool coarse = false) {
  Random random(seed);
  Row row(n);
  const float spread = 0.5f + 3 * static_cast<float>(random.uniform());
  for (float& x : row) x = spread * random.normal();
  if (coarse)
    for (float& x : row) x = std::round(x * 2) / 2;  // many ties
  return row;
}

// Probabilities in F64, and the ids in canonical order.
struct Law {
  std::vector<double> p;
  std::vector<size_t> order;
  double entropy = 0;

  explicit Law(const Row& row, double temperature = 1) : p(row.size()), order(row.size()) {
    const double max = *std::max_element(row.begin(), row.end());
    double z = 0;
    for (size_t i = 0; i < row.size(); ++i) z += p[i] = std::exp((row[i] - max) / temperature);
    for (double& x : p) {
      x /= z;
      if (x > 0) entropy -= x * std::log(x);
    }
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row[a] > row[b]; });
  }
};

using Kept = std::set<int32_t>;

Kept kept_by(Row row, const std::function<void(Candidates&)>& apply) {
  Candidates c;
  c.reset(row);
  apply(c);
  Kept ids;
  for (const Candidate& x : c.items()) ids.insert(x.id);
  EXPECT_EQ(ids.size(), c.size());
  return ids;
}

Kept prefix(const Law& law, size_t n) {
  Kept ids;
  for (size_t i = 0; i < n; ++i) ids.insert(static_cast<int32_t>(law.order[i]));
  return ids;
}

TEST(SamplerProperties, PrefixSupportsEqualTheirDefinitions) {
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(seed);
    const Row row = random_row(seed, 3 + seed % 300, seed % 3 == 0);
    const Law law(row);
    Random random(seed, 1);
    const double share = 0.05 + 0.9 * random.uniform();
    const size_t k = 1 + random.below(row.size());

    EXPECT_EQ(kept_by(row, [&](auto& c) { keep_top_k(c, static_cast<int64_t>(k), false); }), prefix(law, k));
    size_t n = 0;
    for (double sum = 0; n < row.size() && sum < share; ++n) sum += law.p[law.order[n]];
    EXPECT_EQ(kept_by(row, [&](auto& c) { keep_top_p(c, share, 1); }), prefix(law, n));
    EXPECT_EQ(kept_by(row, [&](auto& c) { keep_top_p(c, share, k); }), prefix(law, std::max(n, k)));
    const auto count_above = [&](double cut) {
      return static_cast<size_t>(std::count_if(law.p.begin(), law.p.end(), [cut](double x) { return x >= cut; }));
    };
    EXPECT_EQ(kept_by(row, [&](auto& c) { keep_min_p(c, share, 1); }),
              prefix(law, count_above(share * law.p[law.order[0]])));
    EXPECT_EQ(kept_by(row, [&](auto& c) { keep_epsilon(c, share / 20, 1); }),
              prefix(law, std::max<size_t>(1, count_above(share / 20))));
    const double eta = std::min(share / 20, std::sqrt(share / 20) * std::exp(-law.entropy));
    EXPECT_EQ(kept_by(row, [&](auto& c) { keep_eta(c, share / 20, 1); }),
              prefix(law, std::max<size_t>(1, count_above(eta))));
  }
}

TEST(SamplerProperties, TypicalTakesTheLeastSurprisingSurprise) {
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(seed);
    const Row row = random_row(seed, 2 + seed % 200);
    const Law law(row);
    std::vector<size_t> order(law.order);
    const auto score = [&](size_t i) { return std::abs(-std::log(law.p[i]) - law.entropy); };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return score(a) < score(b); });
    const double mass = 0.1 + 0.8 * Random(seed, 1).uniform();
    Kept want;
    double sum = 0;
    for (size_t i : order) {
      want.insert(static_cast<int32_t>(i));
      if ((sum += law.p[i]) > mass) break;
    }
    EXPECT_EQ(kept_by(row, [&](auto& c) { keep_typical(c, mass, 1, false); }), want);
  }
}

TEST(SamplerProperties, XtcDropsAllButTheLastOfTheTopChoices) {
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(seed);
    const Row row = random_row(seed, 2 + seed % 40);
    const Law law(row);
    const double threshold = 0.02 + 0.4 * Random(seed, 1).uniform();
    Kept want = prefix(law, row.size());
    size_t above = 0;
    while (above < row.size() && law.p[law.order[above]] >= threshold) ++above;
    for (size_t i = 0; i + 1 < above; ++i) want.erase(static_cast<int32_t>(law.order[i]));
    EXPECT_EQ(kept_by(row, [&](auto& c) { exclude_top_choices(c, threshold, 1); }), want);
    EXPECT_EQ(kept_by(row, [&](auto& c) { exclude_top_choices(c, threshold, row.size()); }).size(), row.size());
    const auto best = static_cast<int32_t>(law.order[0]);
    want.insert(best);
    EXPECT_EQ(kept_by(row, [&](auto& c) { exclude_top_choices(c, threshold, 1, std::vector<int32_t>{best}); }), want);
  }
}

TEST(SamplerProperties, TopNSigmaIgnoresTemperatureAndMinusInfinity) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Row row = random_row(seed, 50);
    const auto at = [&](double temperature) {
      return kept_by(row, [&](auto& c) {
        scale_temperature(c, temperature);
        keep_top_n_sigma(c, 1);
      });
    };
    EXPECT_EQ(at(1), at(0.3));
    EXPECT_EQ(at(1), at(5));
    const Kept before = at(1);
    row.push_back(-INFINITY);
    EXPECT_EQ(at(1), before);
  }
}

TEST(TopH, EntropyIsBoundedAndTheNextTokenWouldBreakIt) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    const Row row = random_row(seed, 2 + seed % 1500, seed % 4 == 0);
    Random random(seed, 1);
    const double alpha = 0.05 + 0.9 * random.uniform(), temperature = 0.3 + 2 * random.uniform();
    const Law law(row, temperature);
    Row copy = row;
    Candidates c;
    c.reset(copy);
    scale_temperature(c, temperature);
    const TopHReport report = keep_top_h(c, alpha, TopHMode::kPaper);
    const auto entropy_of = [&](size_t n) {
      double g = 0, h = 0;
      for (size_t i = 0; i < n; ++i) {
        const double p = law.p[law.order[i]];
        g += p;
        h += p * std::log(p);
      }
      return std::log(g) - h / g;
    };
    const double bound = alpha * law.entropy, rounding = 1e-6 * (1 + bound);
    ASSERT_GE(report.kept, 1u);
    if (report.kept > 1) {
      EXPECT_LE(entropy_of(report.kept), bound + rounding);
    }
    if (report.kept < row.size()) {
      EXPECT_GT(entropy_of(report.kept + 1), bound - rounding);
    }
    EXPECT_NEAR(report.entropy_kept, entropy_of(report.kept), 1e-5);
    EXPECT_EQ(report.kept, c.size());
  }
}

TEST(TopH, LimitsMonotonyAndShift) {
  const Row row = random_row(5, 700);
  const auto kept = [](Row r, double alpha, TopHMode mode = TopHMode::kPaper) {
    Candidates c;
    c.reset(r);
    return keep_top_h(c, alpha, mode).kept;
  };
  EXPECT_EQ(kept(row, 1e-6), 1u);
  EXPECT_EQ(kept(row, 1), row.size());
  EXPECT_EQ(kept(random_row(6, 5000), 1), 5000u);  // the F32 sums of long rows
  for (TopHMode mode : {TopHMode::kPaper, TopHMode::kRepo, TopHMode::kHf}) {
    size_t before = 0;
    for (double alpha = 0.02; alpha < 1; alpha += 0.02) {
      const size_t now = kept(row, alpha, mode);
      EXPECT_GE(now, before);
      before = now;
    }
    Row shifted = row;
    for (float& x : shifted) x += 32;
    EXPECT_EQ(kept(shifted, 0.4, mode), kept(row, 0.4, mode));
  }
  for (size_t n : {4, 16, 40, 81, 100, 1024, 4096})
    for (double alpha : {0.25, 0.4, 0.5, 0.75})
      EXPECT_EQ(kept(Row(n, 1.5f), alpha), static_cast<size_t>(std::pow(n, alpha) * (1 + 1e-9))) << n << " " << alpha;
  EXPECT_EQ(kept(Row(50, 0.0f), 0.5, TopHMode::kRepo), 25u);  // the published code keeps alpha * n instead
  Row peaked(40, 0.0f);
  peaked[7] = 300;
  EXPECT_EQ(kept(peaked, 0.9), 1u);
}

// The bound refers to what the model predicted, not to what an earlier sampler left of it.
TEST(TopH, PaperModeMeasuresTheWholeVocabularyAfterTopK) {
  const Row row = random_row(9, 800);
  Row copy = row;
  Candidates all, cut;
  all.reset(copy);
  const TopHReport want = keep_top_h(all, 0.4, TopHMode::kPaper);
  cut.reset(copy);
  cut.keep(want.kept + 20);
  const TopHReport got = keep_top_h(cut, 0.4, TopHMode::kPaper);
  EXPECT_EQ(got.kept, want.kept);
  EXPECT_DOUBLE_EQ(got.entropy_all, want.entropy_all);
}

TEST(Chain, OffValuesAreIdentities) {
  EXPECT_EQ(Sampler(all_off(), 10).chain(), "");
  const Row row = random_row(3, 60);
  EXPECT_EQ(kept_by(row,
                    [](auto& c) {
                      keep_top_k(c, 0, false);
                      keep_top_p(c, 1, 1);
                      keep_min_p(c, 0, 1);
                      keep_typical(c, 1, 1, false);
                      keep_tail_free(c, 1, 1);
                      keep_top_n_sigma(c, -1);
                      keep_epsilon(c, 0, 1);
                      keep_eta(c, 0, 1);
                      keep_top_h(c, 0, TopHMode::kPaper);
                    })
                .size(),
            60u);
}

// A setting for each sampler that changes something.
std::vector<std::pair<std::string, SamplingParams>> one_of_each() {
  std::vector<std::pair<std::string, SamplingParams>> out;
  const auto add = [&](const char* name, auto change) {
    SamplingParams p = all_off();
    change(p);
    out.emplace_back(name, p);
  };
  add("dry", [](auto& p) { p.dry_multiplier = 0.8f, p.dry_allowed_length = 1; });
  add("epsilon", [](auto& p) { p.epsilon_cutoff = 0.02f; });
  add("eta", [](auto& p) { p.eta_cutoff = 0.3f; });
  add("min_p", [](auto& p) { p.min_p = 0.2f; });
  add("no_repeat_ngram", [](auto& p) { p.no_repeat_ngram_size = 2; });
  add("penalties", [](auto& p) { p.repetition_penalty = 1.5f; });
  add("temperature", [](auto& p) { p.temperature = 0.5f; });
  add("tfs_z", [](auto& p) { p.tfs_z = 0.7f; });
  add("top_h", [](auto& p) { p.top_h = 0.5f; });
  add("top_k", [](auto& p) { p.top_k = 5; });
  add("top_n_sigma", [](auto& p) { p.top_n_sigma = 1; });
  add("top_p", [](auto& p) { p.top_p = 0.7f; });
  add("typ_p", [](auto& p) { p.typical_p = 0.5f; });
  add("xtc", [](auto& p) { p.xtc_probability = 1, p.xtc_threshold = 0.05f; });
  return out;
}

std::map<int32_t, double> law_of(const SamplingParams& p, Row row, const std::vector<int32_t>& history) {
  Sampler sampler(p, static_cast<int64_t>(row.size()));
  sampler.sample(row, history, 0);
  const auto list = sampler.remaining();
  return {list.begin(), list.end()};
}

TEST(Chain, EverySamplerRunsByNameAndChangesTheLaw) {
  const Row row = random_row(21, 30);
  const std::vector<int32_t> history = {1, 2, 3, 1, 2};
  const auto settings = one_of_each();
  ASSERT_EQ(settings.size(), samplers().size());
  const auto plain = law_of(all_off(), row, history);
  for (size_t i = 0; i < settings.size(); ++i) {
    const auto& [name, params] = settings[i];
    SCOPED_TRACE(name);
    EXPECT_EQ(samplers()[i].name, name) << "the registry is alphabetical";
    EXPECT_EQ(Sampler(params, 30).chain(), name);
    EXPECT_NE(law_of(params, row, history), plain);
    SamplingParams other = params;
    other.order = SamplerOrder::kHf;
    EXPECT_EQ(Sampler(other, 30).chain(), name) << "in both presets";
    other.samplers = {"top_k"};
    if (name != "top_k") {
      EXPECT_EQ(law_of(other, row, history), plain) << "not in the list: does not run";
    }
  }
}

TEST(Chain, PermutingTheVocabularyPermutesTheLaw) {
  const size_t n = 40;
  for (const auto& [name, params] : one_of_each()) {
    SCOPED_TRACE(name);
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const Row row = random_row(seed, n);
      std::vector<int32_t> to(n), history = {1, 2, 3, 1, 2}, moved_history;
      std::iota(to.begin(), to.end(), 0);
      Random random(seed, 2);
      for (size_t i = n - 1; i > 0; --i) std::swap(to[i], to[random.below(i + 1)]);
      Row moved(n);
      for (size_t i = 0; i < n; ++i) moved[static_cast<size_t>(to[i])] = row[i];
      for (int32_t id : history) moved_history.push_back(to[static_cast<size_t>(id)]);
      const auto law = law_of(params, row, history), moved_law = law_of(params, moved, moved_history);
      ASSERT_EQ(law.size(), moved_law.size());
      for (const auto& [id, p] : law) {
        ASSERT_TRUE(moved_law.contains(to[static_cast<size_t>(id)]));
        ASSERT_NEAR(moved_law.at(to[static_cast<size_t>(id)]), p, 1e-12);
      }
    }
  }
}

// Chi-square of 1e5 draws against remaining() for three chains; bounds are the 1 - 1e-5 quantiles by Wilson-Hilferty.
TEST(Chain, DrawsFollowTheTruncatedLaw) {
  const Row row = random_row(77, 60);
  SamplingParams llama = all_off(0.8f), hf = all_off(1.5f), sigma = all_off(1.2f);
  llama.top_k = 20, llama.top_p = 0.95f, llama.min_p = 0.02f;
  hf.order = SamplerOrder::kHf, hf.top_h = 0.7f;
  sigma.top_n_sigma = 1.5f, sigma.typical_p = 0.9f;
  for (const SamplingParams& p : {llama, hf, sigma}) {
    Sampler sampler(p, 60);
    SCOPED_TRACE(sampler.chain());
    std::map<int32_t, int> counts;
    constexpr int kDraws = 100000;
    for (int i = 0; i < kDraws; ++i) {
      Row copy = row;
      ++counts[sampler.sample(copy, {}, static_cast<uint64_t>(i))];
    }
    const auto law = sampler.remaining();
    ASSERT_GT(law.size(), 3u);
    double chi2 = 0;
    int drawn = 0;
    for (const auto& [id, prob] : law) {
      chi2 += (counts[id] - prob * kDraws) * (counts[id] - prob * kDraws) / (prob * kDraws);
      drawn += counts[id];
    }
    EXPECT_EQ(drawn, kDraws) << "nothing outside the support";
    const double dof = static_cast<double>(law.size() - 1), a = 2 / (9 * dof);
    EXPECT_LT(chi2, dof * std::pow(1 - a + 4.265 * std::sqrt(a), 3));
  }
}

TEST(Chain, OrderMattersAndIsData) {
  // After temperature 2 the tail weighs more, so that top-p keeps more of it.
  const Row row = random_row(8, 50);
  SamplingParams p = all_off(2);
  p.top_p = 0.8f;
  const size_t llama = law_of(p, row, {}).size();
  p.order = SamplerOrder::kHf;
  EXPECT_GT(law_of(p, row, {}).size(), llama);
  EXPECT_EQ(Sampler(p, 50).chain(), "temperature;top_p");
  p.samplers = parse_sampler_letters("pt");
  EXPECT_EQ(law_of(p, row, {}).size(), llama);
  EXPECT_EQ(Sampler(p, 50).chain(), "top_p;temperature");
  // A logit processor after a truncation sees scaled logits and re-orders what is left.
  p.samplers = {"top-k", "temp", "penalties"};
  p.top_k = 3;
  p.repetition_penalty = 2;
  const Law law(row, 2);
  const auto best = static_cast<int32_t>(law.order[0]);
  const auto got = law_of(p, row, {best});
  ASSERT_EQ(got.size(), 3u);
  const double scaled = row[law.order[0]] / 2, second = row[law.order[1]] / 2;
  EXPECT_NEAR(got.at(best) / got.at(static_cast<int32_t>(law.order[1])), std::exp(scaled / 2 - second), 1e-6);
}

TEST(Chain, NamesAreParsedAndRefused) {
  EXPECT_EQ(parse_sampler_names("penalties;dry,typical_p;top-k"),
            (std::vector<std::string>{"penalties", "dry", "typ_p", "top_k"}));
  EXPECT_EQ(parse_sampler_letters("edskypmxt").size(), 9u);
  EXPECT_THROW(parse_sampler_names("top_k;nonsense"), Error);
  EXPECT_THROW(parse_sampler_letters("kz"), Error);
  EXPECT_THROW(parse_sampler_order("openai"), Error);
  EXPECT_THROW(parse_top_h_mode("Paper"), Error);
  SamplingParams p = all_off();
  p.samplers = {"top_q"};
  EXPECT_THROW(validate(p, 10), Error);
}

TEST(Chain, GreedyIgnoresTruncationButNotPenalties) {
  SamplingParams p = all_off(0);
  p.xtc_probability = 1, p.top_h = 0.4f, p.repetition_penalty = 10;
  Row row = {5, 4, 1};
  EXPECT_EQ(Sampler(p, 3).sample(row, std::vector<int32_t>{0}, 0), 1);
}

TEST(Penalties, GeneratedTokensOnlyAndMinTokens) {
  SamplingParams p = all_off(0);
  p.frequency_penalty = 1;
  p.penalize_prompt = false;
  p.min_tokens = 2;
  p.stop_ids = {3};
  Sampler sampler(p, 4);
  Row row = {2, 1, 0, 9};
  EXPECT_EQ(sampler.sample(row, std::vector<int32_t>{0, 0, 0}, 3), 0);  // the prompt does not count
  row = {2, 1.5f, 0, 9};
  EXPECT_EQ(sampler.sample(row, std::vector<int32_t>{0, 0, 0, 0}, 4), 1);  // one generated token does
  row = {2, 1, 0, 9};
  EXPECT_EQ(sampler.sample(row, std::vector<int32_t>{0, 0, 0, 0, 1}, 5), 3);  // two tokens: it may stop
}

TEST(Penalties, RepeatedNgramsAreBanned) {
  Row row(6, 0.0f);
  const std::vector<int32_t> history = {1, 2, 3, 1, 2};
  ban_repeated_ngrams(row, history, 3);
  EXPECT_EQ(row, (Row{0, 0, 0, -INFINITY, 0, 0}));
  row.assign(6, 0);
  ban_repeated_ngrams(row, history, 1);
  EXPECT_EQ(row, (Row{0, -INFINITY, -INFINITY, -INFINITY, 0, 0}));
  row.assign(6, 0);
  ban_repeated_ngrams(row, history, 7);
  EXPECT_EQ(row, Row(6, 0.0f));
}

TEST(Dry, LongestOccurrenceBreakersAndCap) {
  // Context ends in 1 2; after the earlier 1 2 came 3 (run of 2), after the single 2 came 4 (run of 1).
  const std::vector<int32_t> history = {1, 2, 3, 2, 4, 1, 2};
  Dry dry{1, 2, 1, -1, {}};
  Row row(6, 0.0f);
  apply_dry(row, dry, history);
  EXPECT_EQ(row, (Row{0, 0, 0, -2, -1, 0}));
  dry.breakers = {{1, 2}};  // two tokens: the limit is 0, nothing repeats
  row.assign(6, 0);
  apply_dry(row, dry, history);
  EXPECT_EQ(row, Row(6, 0.0f));
  dry.breakers = {{3}};  // never penalised, and far enough back not to limit
  row.assign(6, 0);
  apply_dry(row, dry, history);
  EXPECT_EQ(row, (Row{0, 0, 0, 0, -1, 0}));
  const std::vector<int32_t> long_run(500, 2);
  row.assign(6, 0);
  apply_dry(row, {1, 2, 2, -1, {}}, long_run);
  EXPECT_EQ(row[2], -std::exp2(127.0f));  // floor(88.72 / ln 2) = 127: finite
}

TEST(Dry, BreakerTextCoversOverlappingTokens) {
  const std::vector<std::string> pieces = {"a", "\n", "x\n", "ab", "c", "bc"};
  const auto encode = [](std::string_view s) { return std::vector<int32_t>(s.size(), 4); };
  EXPECT_EQ(dry_breaker_tokens("\n", pieces, encode), (std::vector<std::vector<int32_t>>{{1}, {2}}));
  EXPECT_EQ(dry_breaker_tokens("bc", pieces, encode), (std::vector<std::vector<int32_t>>{{3, 4}, {5}}));
  EXPECT_TRUE(dry_breaker_tokens("", pieces, encode).empty());
}

TEST(Mirostat, HoldsTheTargetSurprise) {
  for (int version : {1, 2}) {
    SamplingParams p = all_off();
    p.mirostat = version;
    p.mirostat_tau = 3;
    Row row(1000);  // Zipf law with exponent 1.1, the shape that version 1 assumes
    for (size_t i = 0; i < row.size(); ++i) row[i] = -1.1f * std::log(static_cast<float>(i + 1));
    Sampler sampler(p, 1000);
    double bits = 0;
    constexpr int kTokens = 2000;
    for (int i = 0; i < kTokens; ++i) {
      Row copy = row;
      const int32_t id = sampler.sample(copy, {}, static_cast<uint64_t>(i));
      for (const auto& [other, prob] : sampler.remaining())
        if (other == id) bits -= std::log2(prob);
    }
    EXPECT_NEAR(bits / kTokens, 3, 0.15) << "version " << version;
    EXPECT_EQ(sampler.chain(), fmt::format("mirostat_v{}", version));
  }
}

TEST(Mirostat, ACopyContinuesOnItsOwn) {
  SamplingParams p = all_off();
  p.mirostat = 2;
  const Row row = random_row(4, 200);
  const auto draw = [&](Sampler& s, uint64_t at) {
    Row copy = row;
    return s.sample(copy, {}, at);
  };
  Sampler a(p, 200);
  for (uint64_t i = 0; i < 20; ++i) draw(a, i);
  Sampler b = a, c = a;
  std::vector<int32_t> from_b, from_c, from_a;
  for (uint64_t i = 20; i < 60; ++i) from_b.push_back(draw(b, i));
  for (uint64_t i = 20; i < 60; ++i) from_c.push_back(draw(c, i));
  for (uint64_t i = 20; i < 60; ++i) from_a.push_back(draw(a, i));
  EXPECT_EQ(from_b, from_c);
  EXPECT_EQ(from_b, from_a);
}

TEST(Mirostat, FlatRowsKeepEverythingInVersionOne) {
  Row row(50, 2.0f);
  Candidates c;
  c.reset(row);
  keep_mirostat_v1(c, start_mirostat(5, 0.1), 50);
  EXPECT_EQ(c.size(), 50u);
}

TEST(Logprobs, MatchTheSoftmaxAndRank) {
  for (size_t n : {5u, 3000u}) {  // F64 and F32 sums
    Row row = random_row(n, n, true);
    row[1] = -INFINITY;
    const Law law(row);
    const Logprobs got = token_logprobs(row, static_cast<int32_t>(law.order[2]), 4);
    EXPECT_EQ(got.chosen.rank, 2u);
    EXPECT_NEAR(got.chosen.logprob, std::log(law.p[law.order[2]]), 1e-6);
    ASSERT_EQ(got.top.size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(got.top[i].id, static_cast<int32_t>(law.order[i]));
      EXPECT_NEAR(got.top[i].logprob, std::log(law.p[law.order[i]]), 1e-6);
    }
    EXPECT_EQ(token_logprobs(row, 1, 0).chosen.logprob, -INFINITY);
  }
  EXPECT_THROW(token_logprobs(Row{0, 1}, 2, 0), Error);
}

TEST(Guidance, ScaleOneIsTheRowAndScaleZeroTheOther) {
  const Row c = random_row(1, 20), u = random_row(2, 20);
  Row one = c, zero = c;
  apply_guidance(one, u, 1);
  apply_guidance(zero, u, 0);
  const double log_c = log_sum_exp(c), log_u = log_sum_exp(u);
  for (size_t i = 0; i < c.size(); ++i) {
    EXPECT_NEAR(one[i], c[i] - log_c, 1e-5);
    EXPECT_NEAR(zero[i], u[i] - log_u, 1e-5);
  }
}

TEST(Validation, EveryNewFieldHasItsRange) {
  const auto message = [](auto change) {
    SamplingParams p = all_off();
    change(p);
    try {
      validate(p, 10);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message([](auto& p) { p.top_h = 1.5f; }), "top_h: expected a number in [0, 1], found 1.5");
  EXPECT_NE(message([](auto& p) { p.typical_p = 0; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.top_n_sigma = -2; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.top_n_sigma = NAN; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.xtc_probability = 2; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.mirostat = 3; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.dry_base = 0.5f; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.dry_breakers = {{}}; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.dry_breakers = {{10}}; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.stop_ids = {-1}; }), "accepted");
  EXPECT_NE(message([](auto& p) { p.eta_cutoff = 1; }), "accepted");
  EXPECT_EQ(message([](auto& p) { p.top_h = 0.4f; }), "accepted");
}

}  // namespace
}  // namespace fettle::decoding
