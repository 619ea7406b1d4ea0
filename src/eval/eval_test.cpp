#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numbers>

#include "eval/divergence.h"
#include "eval/html_report.h"
#include "eval/logits_file.h"
#include "eval/perplexity.h"
#include "eval/score.h"
#include "eval/statistics.h"
#include "eval/svg.h"
#include "eval/test_source.h"
#include "eval/windows.h"

namespace fettle::eval {
namespace {

using ::testing::HasSubstr;
using testing::numbered_text;
using testing::TableSource;

std::string temp_path(const std::string& name) { return ::testing::TempDir() + "fettle_eval_" + name; }

template <typename F>
std::string error_of(F&& f, ErrorCode code) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Statistics, MatchHandComputedFigures) {
  RunningStat s;
  for (const double x : {2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) s.add(x);
  EXPECT_DOUBLE_EQ(s.mean(), 5.0);
  EXPECT_DOUBLE_EQ(s.variance(), 4.0);
  EXPECT_DOUBLE_EQ(s.sample_stddev(), std::sqrt(32.0 / 7));
  EXPECT_DOUBLE_EQ(s.standard_error(), std::sqrt(4.0 / 7));
  EXPECT_EQ(RunningStat{}.standard_error(), 0.0);
}

TEST(Statistics, PercentileInterpolates) {
  const std::vector<float> v = {1, 2, 4, 8};
  EXPECT_DOUBLE_EQ(percentile(v, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(v, 1), 8);
  EXPECT_DOUBLE_EQ(percentile(v, 0.5), 3);
  EXPECT_DOUBLE_EQ(percentile({}, 0.5), 0);
  const Estimate p = proportion(3, 5);
  EXPECT_DOUBLE_EQ(p.value, 0.6);
  EXPECT_DOUBLE_EQ(p.error, std::sqrt(0.24 / 4));
}

TEST(Windows, LlamaCppScoresTheSecondHalf) {
  const auto w = plan_windows(1000, {.ctx = 256});
  ASSERT_EQ(w.size(), 3u);
  EXPECT_EQ(w[2].begin, 512u);
  EXPECT_EQ(w[0].first_target, 129u);
  EXPECT_EQ(w[0].targets(), 256u - 256 / 2 - 1);
  EXPECT_TRUE(w[0].bos_first);
}

TEST(Windows, GptqScoresAllButTheFirst) {
  const auto w = plan_windows(91526, {.method = PplMethod::kGptq, .ctx = 256});
  ASSERT_EQ(w.size(), 357u);
  EXPECT_EQ(w.size() * w[0].targets(), 91035u);  // models/books-5m/README.md
  EXPECT_EQ(plan_windows(91526, {.ctx = 256}).size() * 127, 45339u);
}

TEST(Windows, HfAndLmEvalScoreEveryTokenOnce) {
  for (const PplMethod method : {PplMethod::kHf, PplMethod::kLmEval})
    for (const size_t n : {2u, 5u, 16u, 17u, 100u, 129u})
      for (const size_t stride : {1u, 5u, 15u}) {
        std::vector<int> hits(n, 0);
        for (const Window& w : plan_windows(n, {.method = method, .ctx = 16, .stride = stride})) {
          ASSERT_LE(w.begin + w.length, n);
          ASSERT_GE(w.first_target, 1u);
          ASSERT_LE(w.length, 17u);
          for (size_t t = w.first_target; t < w.length; ++t) ++hits[w.begin + t];
        }
        EXPECT_EQ(hits[0], 0);
        for (size_t i = 1; i < n; ++i) EXPECT_EQ(hits[i], 1) << method_name(method) << " n=" << n << " i=" << i;
      }
}

TEST(Windows, StrideWindowsScoreTheirLastTokens) {
  const auto w = plan_windows(200, {.ctx = 64, .stride = 32});
  ASSERT_FALSE(w.empty());
  EXPECT_EQ(w[0].length, 80u);
  EXPECT_EQ(w[0].targets(), 32u);
  EXPECT_EQ(w[1].begin, 32u);
}

TEST(Windows, RefusesWhatCannotBe) {
  EXPECT_THAT(error_of([] { plan_windows(100, {.ctx = 512}); }, ErrorCode::kInput),
              ::testing::AllOf(HasSubstr("512"), HasSubstr("100")));
  error_of([] { plan_windows(100, {.ctx = 1}); }, ErrorCode::kUsage);
  error_of([] { plan_windows(100, {.method = PplMethod::kHf, .ctx = 8, .stride = 9}); }, ErrorCode::kUsage);
  EXPECT_THAT(error_of([] { parse_method("wiki"); }, ErrorCode::kUsage), HasSubstr("lm-eval"));
}

TEST(Perplexity, EqualsTheDirectSum) {
  ThreadPool pool(2);
  TableSource source(11, 2.0f);
  const EvalText text = numbered_text(70, 11);
  for (const PplMethod method : {PplMethod::kLlamaCpp, PplMethod::kGptq, PplMethod::kHf}) {
    const WindowOptions options{.method = method, .ctx = 16, .stride = method == PplMethod::kHf ? 5u : 0u};
    double sum = 0;
    size_t count = 0;
    for (const Window& w : plan_windows(text.tokens.size(), options))
      for (size_t t = w.first_target; t < w.length; ++t, ++count)
        sum += source.nll(text.tokens[w.begin + t - 1], t - 1, text.tokens[w.begin + t]);
    const PplResult r = perplexity(source, text, options, pool);
    EXPECT_EQ(r.scored, count);
    EXPECT_NEAR(r.nll, sum / static_cast<double>(count), 1e-6) << method_name(method);
    EXPECT_NEAR(r.ppl, std::exp(r.nll), 1e-12);
    EXPECT_NEAR(r.ppl_error, r.ppl * r.nll_error, 1e-12);
  }
}

TEST(Perplexity, BosReplacesTheFirstTokenOnlyWhenTheTokenizerAddsIt) {
  ThreadPool pool(1);
  TableSource source(11, 2.0f);
  EvalText text = numbered_text(32, 11);
  text.bos = 9;
  const Window second = plan_windows(32, {.ctx = 16})[1];
  EXPECT_EQ(window_tokens(text, second)[0], text.tokens[16]);
  text.adds_bos = true;
  EXPECT_EQ(window_tokens(text, second)[0], 9);
  EXPECT_EQ(window_tokens(text, second)[1], text.tokens[17]);
}

TEST(Perplexity, UniformModelHasTheVocabularyAsPerplexity) {
  ThreadPool pool(1);
  TableSource flat(13, 0.0f);
  EvalText text = numbered_text(64, 13);
  text.bos = 0;
  const PplResult r = perplexity(flat, text, {.method = PplMethod::kLmEval, .ctx = 16}, pool);
  EXPECT_NEAR(r.ppl, 13.0, 1e-5);
  EXPECT_EQ(r.scored, 64u);
  EXPECT_NEAR(r.bits_per_byte, std::log2(13.0) / 3, 1e-5);
  EXPECT_NEAR(std::log(r.word_ppl), 2 * std::log(13.0), 1e-4);
}

TEST(Perplexity, RefusesForeignTokensAndNonFiniteLogits) {
  ThreadPool pool(1);
  TableSource source(5, 1.0f);
  EvalText text = numbered_text(64, 5);
  text.tokens[40] = 5;
  EXPECT_THAT(error_of([&] { perplexity(source, text, {.ctx = 16}, pool); }, ErrorCode::kInput), HasSubstr("token 40"));
  TableSource bad(5, NAN);
  error_of([&] { perplexity(bad, numbered_text(64, 5), {.ctx = 16}, pool); }, ErrorCode::kNumeric);
}

TEST(Perplexity, StopsWhenCancelled) {
  ThreadPool pool(1);
  TableSource source(5, 1.0f);
  CancelToken token;
  RunHooks hooks{.progress =
                     [&](size_t w, size_t, const PplResult&) {
                       if (w == 2) token.cancel(2);
                     },
                 .cancel = &token};
  error_of([&] { perplexity(source, numbered_text(640, 5), {.ctx = 16}, pool, hooks); }, ErrorCode::kCancelled);
}

TEST(Score, KlOfTwoKnownDistributions) {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): KL = 1/2 ln 2 - 1/4 ln 2.
  const std::vector<float> p = {std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  const std::vector<float> q = {std::log(0.25f) + 3, std::log(0.25f) + 3, std::log(0.5f) + 3};  // shifted logits
  const std::vector<int32_t> target = {2};
  std::vector<PairScore> s(1);
  ThreadPool pool(1);
  compare_rows({p.data(), 1, 3}, {q.data(), 1, 3}, target, pool, s);
  EXPECT_NEAR(s[0].kl, 0.25 * std::numbers::ln2, 1e-6);
  EXPECT_NEAR(s[0].nll, std::numbers::ln2, 1e-6);
  EXPECT_NEAR(s[0].reference_nll, 2 * std::numbers::ln2, 1e-6);
  EXPECT_NEAR(s[0].delta_p, 0.25, 1e-6);
  EXPECT_FALSE(s[0].same_top);
}

TEST(Divergence, OfAModelWithItselfIsZero) {
  ThreadPool pool(2);
  TableSource reference(17, 3.0f), same(17, 3.0f), other(17, 2.5f);
  LogitSource* candidates[] = {&same, &other};
  const auto r = compare_to_reference(reference, candidates, numbered_text(128, 17), {.ctx = 32}, pool);
  ASSERT_EQ(r.size(), 2u);
  EXPECT_EQ(r[0].kl.value, 0.0);
  EXPECT_EQ(r[0].top1_agreement.value, 1.0);
  EXPECT_EQ(r[0].ln_ppl_ratio.value, 0.0);
  EXPECT_GT(r[1].kl.value, 0.001);
  EXPECT_GT(r[1].kl.error, 0.0);
  EXPECT_GE(r[1].kl_max, r[1].kl_at.back());
  EXPECT_NEAR(r[1].ln_ppl_ratio.value, r[1].model.nll - r[1].reference.nll, 1e-9);
  TableSource small(16, 1.0f);
  LogitSource* wrong[] = {&small};
  EXPECT_THAT(error_of([&] { compare_to_reference(reference, wrong, numbered_text(128, 16), {.ctx = 32}, pool); },
                       ErrorCode::kInput),
              HasSubstr("17"));
}

TEST(LogitsFile, RoundTripKeepsTheDistribution) {
  ThreadPool pool(2);
  TableSource reference(17, 3.0f), model(17, 2.5f);
  const EvalText text = numbered_text(128, 17);
  const std::string path = temp_path("logits.bin");
  const PplResult saved = save_logits(path, Overwrite::kYes, reference, text, {.ctx = 32}, pool);
  const LogitsFile file = LogitsFile::open(path);
  EXPECT_EQ(file.ctx(), 32u);
  EXPECT_EQ(file.chunks(), 4u);
  EXPECT_EQ(file.tokens(), text.tokens);
  std::vector<float> row(17);
  file.read_row(0, 0, row);
  double sum = 0;
  for (const float x : row) sum += std::exp(static_cast<double>(x));
  EXPECT_NEAR(sum, 1.0, 1e-3);
  LogitSource* candidates[] = {&model};
  const auto live = compare_to_reference(reference, candidates, text, {.ctx = 32}, pool);
  const KlResult stored = compare_to_file(file, model, text, pool, 0);
  // Codes are rounded to range / 131070 with a range of at most 6 here.
  EXPECT_NEAR(stored.kl.value, live[0].kl.value, 1e-4);
  EXPECT_NEAR(stored.reference.ppl, saved.ppl, 1e-3);
  EXPECT_EQ(stored.top1_agreement.value, live[0].top1_agreement.value);
  EXPECT_NEAR(perplexity(reference, text, {.ctx = 32}, pool).nll, saved.nll, 1e-12);
}

TEST(LogitsFile, RefusesTruncatedAndLyingFiles) {
  const std::string path = temp_path("bad.bin");
  std::string good = "_logits_";
  const auto i32 = [](int32_t v) { return std::string(reinterpret_cast<const char*>(&v), 4); };
  good += i32(4) + i32(3) + i32(1) + i32(0) + i32(1) + i32(2) + i32(0) + std::string(2 * (4 + 4), '\0');
  write_file_atomic(path, good);
  EXPECT_EQ(LogitsFile::open(path).vocab_size(), 3u);
  for (const size_t cut : {size_t{0}, size_t{7}, size_t{19}, good.size() - 1}) {
    write_file_atomic(path, good.substr(0, cut));
    error_of([&] { LogitsFile::open(path); }, ErrorCode::kInput);
  }
  std::string huge = good;
  huge.replace(8, 12, i32(INT32_MAX) + i32(INT32_MAX) + i32(INT32_MAX));
  write_file_atomic(path, huge);
  EXPECT_THAT(error_of([&] { LogitsFile::open(path); }, ErrorCode::kInput), HasSubstr("2^64"));
  std::string token = good;
  token.replace(20, 4, i32(3));
  write_file_atomic(path, token);
  EXPECT_THAT(error_of([&] { LogitsFile::open(path); }, ErrorCode::kInput), HasSubstr("token id 3"));
}

TEST(Svg, FrontierKeepsUnbeatenPoints) {
  const std::vector<ScatterPoint> p = {{4, 1}, {8, 0.1}, {4, 2}, {16, 0.2}, {3, 5}};
  EXPECT_EQ(pareto_frontier(p), (std::vector<size_t>{4, 0, 1}));
}

TEST(Svg, TicksAreRoundAndInside) {
  EXPECT_EQ(axis_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  for (const double v : axis_ticks(3.3, 17.9, 6)) EXPECT_TRUE(v >= 3.3 && v <= 17.9) << v;
}

TEST(Svg, TextIsEscaped) {
  EXPECT_EQ(escape_xml("a<b>&\"'\x01\xff"), "a&lt;b&gt;&amp;&quot;&#39;\xEF\xBF\xBD");
  const std::string svg = svg_scatter({.title = "t<", .points = {{1, 2, 0.1, "x&y"}, {2, 1, 0, "z"}}});
  EXPECT_THAT(svg, HasSubstr("x&amp;y"));
  EXPECT_THAT(svg, HasSubstr("<title>t&lt;</title>"));
  EXPECT_THAT(svg, ::testing::Not(HasSubstr("nan")));
  EXPECT_THAT(svg_bars({.title = "b", .unit = "tokens/s", .bars = {{"q", 3, 1}, {"zero", 0, 0}}}), HasSubstr("3 ± 1"));
}

TEST(HtmlReport, HoldsEverythingAndFetchesNothing) {
  const ReportTable t{.caption = "c", .columns = {{"format", false}, {"ppl", true}}, .rows = {{"int<4>", "5 ± 1"}}};
  const std::string html = render_html(
      {.title = "T", .facts = {{"model", "m"}}, .sections = {{.heading = "H", .tables = {t}, .verbatim = "<a>"}}});
  EXPECT_THAT(html, HasSubstr("int&lt;4&gt;"));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(html, HasSubstr("<th scope=\"row\">"));
  for (const char* banned : {"<script", "src=", "href=", "url(", "@import"})
    EXPECT_THAT(html, ::testing::Not(HasSubstr(banned)));
  EXPECT_EQ(render_text(t), "format    ppl\n------  -----\nint<4>  5 ± 1\n");
}

}  // namespace
}  // namespace fettle::eval
