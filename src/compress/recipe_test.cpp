#include "compress/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "models/model.h"

namespace fettle::compress {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class RecipeTest : public ::testing::Test {
 protected:
  PipelineOptions read(const std::string& text) {
    write_file_atomic(dir_ / "r.yaml", text);
    return read_recipe(dir_ / "r.yaml", {});
  }
  std::string error(const std::string& text, ErrorCode code = ErrorCode::kInput) {
    try {
      read(text);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      return e.what();
    }
    ADD_FAILURE() << "no error for " << text;
    return {};
  }
  testing::TempDir dir_;
};

constexpr char kFull[] = R"(
# everything at once
method: qronos
format: int4
group_size: 64
symmetric: false
scale_dtype: f16
search: imatrix
smooth: awq
smooth_alpha: 0.25
damping: 1e-4
act_order: no
propagate: true
expert_tokens: 17
ignore: ["re:.*gate$", lm_head]
target_bpw: 5.5
bpw_formats: [int4, int8, mxfp4]
calibration: {source: text.txt, samples: 8, seqlen: 128, seed: 3}
overrides:
  - targets: "re:.*down_proj"
    format: int8
    group_size: -1
  - targets: [a, b]
    dense: true
  - {targets: c, method: rtn, symmetric: true}
)";

TEST_F(RecipeTest, ReadsEveryKeyAndGivesItBack) {
  const PipelineOptions o =
      read(std::string(kFull).replace(std::string(kFull).find("act_order: no"), 13, "act_order: false"));
  EXPECT_EQ(o.compress.method, "qronos");
  EXPECT_EQ(o.compress.numbers.group_size, 64);
  EXPECT_FALSE(o.compress.numbers.symmetric);
  EXPECT_EQ(o.compress.numbers.scale_dtype, DType::kF16);
  EXPECT_EQ(o.compress.search, GridSearch::kImatrix);
  EXPECT_EQ(o.smoothing, Smoothing::kAwq);
  EXPECT_EQ(o.smooth_alpha, 0.25);
  EXPECT_EQ(o.damping, 1e-4);
  EXPECT_FALSE(o.act_order);
  EXPECT_EQ(o.expert_tokens, 17);
  EXPECT_EQ(o.compress.ignore, (std::vector<std::string>{"re:.*gate$", "lm_head"}));
  EXPECT_EQ(o.target_bpw, 5.5);
  EXPECT_EQ(o.bpw_formats, (std::vector<Format>{Format::kInt4, Format::kInt8, Format::kMxfp4}));
  EXPECT_EQ(o.calibration.source, "text.txt");
  EXPECT_EQ(o.calibration.seed, 3);
  ASSERT_EQ(o.compress.rules.size(), 3u);
  EXPECT_EQ(o.compress.rules[0].format, Format::kInt8);
  EXPECT_EQ(o.compress.rules[0].group_size, -1);
  EXPECT_TRUE(o.compress.rules[1].dense);
  EXPECT_EQ(o.compress.rules[2].method, "rtn");
  // JSON is YAML.
  const Json json = recipe_json(o);
  EXPECT_EQ(recipe_json(read(json.dump(2))).dump(), json.dump());
}

TEST_F(RecipeTest, SweepsTakeEveryCombination) {
  write_file_atomic(dir_ / "s.yaml",
                    "format: int4\nsweep:\n  method: [rtn, gptq]\n  group_size: [32, -1]\n  seed: [0, 1, 2]\n");
  const std::vector<SweepPoint> points = read_sweep(dir_ / "s.yaml", {});
  ASSERT_EQ(points.size(), 12u);
  EXPECT_EQ(points[0].name, "rtn-g32-seed0");
  EXPECT_EQ(points[11].name, "gptq-row-seed2");
  EXPECT_EQ(points[11].options.compress.method, "gptq");
  EXPECT_EQ(points[11].options.compress.numbers.group_size, -1);
  EXPECT_EQ(points[11].options.calibration.seed, 2);
  EXPECT_EQ(points[4].options.calibration.seed, 1);
  write_file_atomic(dir_ / "s.yaml", "format: int4\n");
  EXPECT_THROW(read_sweep(dir_ / "s.yaml", {}), Error);
  write_file_atomic(dir_ / "s.yaml", "sweep: {methd: [a]}\n");
  EXPECT_THROW(read_sweep(dir_ / "s.yaml", {}), Error);
}

TEST_F(RecipeTest, BadRecipesNameKeyAndPlace) {
  EXPECT_THAT(error("methd: gptq\n"),
              AllOf(HasSubstr("r.yaml"), HasSubstr("unknown key \"methd\""), HasSubstr("method,")));
  EXPECT_THAT(error("overrides:\n  - {targets: a, bits: 3}\n"),
              AllOf(HasSubstr("overrides[0]"), HasSubstr("\"bits\"")));
  EXPECT_THAT(error("calibration: {sample: 3}\n"), HasSubstr("\"sample\""));
  EXPECT_THAT(error("group_size: many\n"), AllOf(HasSubstr("group_size"), HasSubstr("many")));
  EXPECT_THAT(error("format: int5\n"), AllOf(HasSubstr("format"), HasSubstr("int5")));
  EXPECT_THAT(error("search: best\n", ErrorCode::kUsage), AllOf(HasSubstr("absmax, mse, imatrix"), HasSubstr("best")));
  EXPECT_THAT(error("method: magic\n", ErrorCode::kUsage), HasSubstr("magic"));
  EXPECT_THAT(error("a: [1, 2\n"), AllOf(HasSubstr("line"), HasSubstr("column")));
  EXPECT_THAT(error("damping: 1\ndamping: 2\n"), AllOf(HasSubstr("damping"), HasSubstr("twice")));
  EXPECT_THAT(error("- method\n"), HasSubstr("expected"));
  EXPECT_THAT(error("act_order: 'true'\n"), HasSubstr("act_order"));
  std::string deep;
  for (int i = 0; i < 40; ++i) deep += "[";
  EXPECT_THAT(error("ignore: " + deep + std::string(40, ']') + "\n"), HasSubstr("nesting"));
  // Nine lines that stand for a billion values.
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    bomb += fmt::format("{}: &{} [", c, c);
    for (int i = 0; i < 10; ++i) bomb += fmt::format("{}*{}", i ? "," : "", static_cast<char>(c - 1));
    bomb += "]\n";
  }
  EXPECT_THAT(error(bomb), HasSubstr("values"));
}

class MixedTest : public ::testing::Test {
 protected:
  MixedTest() : pool_(2), model_(dir_ / "model") {
    synth(model_, {.arch = "llama", .dtype = DType::kBF16}, Overwrite::kYes, pool_);
  }
  testing::TempDir dir_;
  ThreadPool pool_;
  std::string model_;
};

TEST_F(MixedTest, RulesChangeSomeLayers) {
  CompressOptions o;
  o.numbers.group_size = 32;
  o.rules = {{.targets = {"re:.*down_proj"}, .format = Format::kInt8, .group_size = -1},
             {.targets = {"model.layers.0.*"}, .symmetric = false},
             {.targets = {"*.o_proj"}, .dense = true}};
  const CompressPlan plan = plan_compression(model_, o);
  for (const LayerPlan& l : plan.layers) {
    const bool down = l.module.ends_with("down_proj");
    EXPECT_EQ(l.stored.format, down ? Format::kInt8 : Format::kInt4) << l.module;
    EXPECT_EQ(l.stored.group_size, down ? l.cols : 32) << l.module;
    EXPECT_EQ(l.stored.zero_points, block_of(l.module) == 0) << l.module;
    EXPECT_FALSE(l.module.ends_with("o_proj"));
  }
  EXPECT_EQ(std::count_if(plan.dense.begin(), plan.dense.end(), [](const auto& m) { return m.ends_with("o_proj"); }),
            2);
  compress(model_, dir_ / "out", o, pool_);
  models::Model::load(dir_ / "out", {.strict = true}, pool_);
}

// Fused layers share a format, the budget holds, and more bits never cost accuracy.
TEST_F(MixedTest, TargetBitsAreReachedAndOrdered) {
  double last = 1;
  for (const double target : {4.6, 5.5, 7.0, 9.0}) {
    PipelineOptions o;
    o.compress.numbers.group_size = 32;
    o.calibration = {"self", 4, 48, 1};
    o.target_bpw = target;
    ASSERT_TRUE(is_calibrated(o));
    const std::string out = dir_ / fmt::format("b{}", target);
    const PipelineReport r = run_pipeline(model_, out, o, pool_);
    EXPECT_LE(r.plan.bits_per_weight(), target);
    std::map<std::string, Format> groups;
    for (const LayerPlan& l : r.plan.layers)
      if (const std::string g = fusion_group(l.module); !g.empty()) {
        EXPECT_EQ(groups.try_emplace(g, l.stored.format).first->second, l.stored.format) << l.module;
      }
    EXPECT_LE(r.mean_objective(), last);
    last = r.mean_objective();
    models::Model::load(out, {.strict = true}, pool_);
  }
  PipelineOptions o;
  o.calibration = {"self", 4, 48, 1};
  o.target_bpw = 3;
  EXPECT_THROW(run_pipeline(model_, dir_ / "small", o, pool_), Error);
}

}  // namespace
}  // namespace fettle::compress
