// Vectors of the calibration pipeline's mathematics (tests/data/vectors/ptq-pipeline/README.md).
#include <algorithm>
#include <cmath>

#include "compress/solve/awq.h"
#include "compress/solve/gptq.h"
#include "compress/solve/group_fit.h"
#include "compress/solve/magr.h"
#include "compress/solve/rotate.h"
#include "compress/solve/sensitivity.h"
#include "compress/solve/smoothquant.h"
#include "compress/solve/transforms.h"
#include "vector_files.h"

namespace fettle::compress {
namespace {

using namespace fettle::golden;

constexpr char kFolder[] = "ptq-pipeline";

// "b4.asym" -> a grid of 4-bit integers with the vector's scales and zero points.
Grid vector_grid(const SafetensorsFile& f, const std::string& key, int64_t group) {
  const Tensor w = f.tensor("W");
  Grid g{.format = Format::kInt4,
         .options = {.group_size = group, .symmetric = false, .scale_dtype = DType::kF32},
         .rows = w.dim(0),
         .cols = w.dim(1),
         .group_size = group,
         .bits = key[1] - '0'};
  g.scales = values<float>(f, key + ".scale");
  for (const float z : values<float>(f, key + ".zero")) g.zeros.push_back(static_cast<uint8_t>(z));
  return g;
}

TEST(GptqVariants, CodesScalesAndErrors) {
  for_each_file(kFolder, "gptq_variants", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix w = matrix(f, "W"), h = matrix(f, "H");
    for (const std::string& key : stems(f, ".rtn.codes")) {
      SCOPED_TRACE(key);
      const int64_t groups = f.tensor(key + ".scale").dim(1), group = static_cast<int64_t>(w.cols) / groups;
      const bool symmetric = key.ends_with(".sym");
      Grid grid = vector_grid(f, key, group);
      const auto check = [&](const std::string& variant, const RoundResult& r) {
        SCOPED_TRACE(variant);
        const std::string at = key + "." + variant;
        EXPECT_GE(agreement(r.codes, values<uint8_t>(f, at + ".codes")), 0.995);
        const double want = values<double>(f, at + ".relerr")[0];
        // absmax / 7.5 puts the largest weight of a group on a rounding tie, which F32 and F64 break differently.
        EXPECT_NEAR(r.report.objective, want, (symmetric ? 0.03 : 0.01) * want);
        if (!has(f, at + ".scale")) return;
        const auto scales = values<float>(f, at + ".scale");
        size_t close = 0;
        for (size_t i = 0; i < scales.size(); ++i)
          close += std::fabs(r.grid.scales[i] - scales[i]) <= 1e-5 * std::fabs(scales[i]);
        EXPECT_GE(close, scales.size() * 95 / 100);
      };
      check("rtn", rtn_round(w.view(), h.view(), grid, pool));
      check("noorder_static", gptq_round(w.view(), h.view(), grid, {.act_order = false}, pool));
      check("actorder_static", gptq_round(w.view(), h.view(), grid, {.act_order = true}, pool));
      // Recomputed scales follow the symmetric or asymmetric rule; symmetric codes keep the middle as zero point.
      if (symmetric) {
        grid.options.symmetric = true;
        grid.zeros.clear();
      }
      check("noorder_dynamic",
            gptq_round(w.view(), h.view(), grid, {.act_order = false, .dynamic_groups = true}, pool));
      const RoundResult permuted = gptq_round(
          w.view(), h.view(), grid, {.act_order = true, .dynamic_groups = true, .permuted_groups = true}, pool);
      check("actorder_group", permuted);
      EXPECT_EQ(permuted.grid.group_of, values<int32_t>(f, key + ".actorder_group.g_idx"));
    }
  });
}

FormatOptions plain_options(const std::string& symmetry, int64_t group) {
  return {.group_size = group, .symmetric = symmetry == "sym", .scale_dtype = DType::kF32};
}

TEST(Awq, LossesRatiosAndScales) {
  for_each_file(kFolder, "awq", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix x = matrix(f, "X"), w0 = matrix(f, "W0"), w1 = matrix(f, "W1"), w2 = matrix(f, "W2");
    const std::vector<MatView<const float>> weights = {w0.view(), w1.view(), w2.view()};
    const int64_t group = static_cast<int64_t>(w0.cols) / f.tensor("clip.b4.asym.max").dim(1);
    const auto x_mean = channel_mean_magnitude(x.view()), w_mean = relative_weight_magnitude(weights, group);
    const auto want_x = values<float>(f, "x_mean"), want_w = values<float>(f, "w_mean");
    for (size_t k = 0; k < want_x.size(); ++k) {
      EXPECT_NEAR(x_mean[k], want_x[k], 1e-5 * want_x[k]);
      EXPECT_NEAR(w_mean[k], want_w[k], 1e-5 * want_w[k]);
    }
    for (const std::string& run : stems(f, ".losses")) {
      SCOPED_TRACE(run);
      const AwqRule rule = run.starts_with("llmc")              ? AwqRule::kCompressor
                           : run.starts_with("autoawq_actonly") ? AwqRule::kActivationOnly
                                                                : AwqRule::kDuo;
      const size_t dot = run.find(".b");
      const int bits = run[dot + 2] - '0';
      FormatOptions o = plain_options(run.substr(dot + 4), group);
      const auto loss = [&](std::span<const float> s) {
        return awq_output_loss(x.view(), weights, s, Format::kInt4, o, bits, pool);
      };
      const AwqResult r = awq_search(awq_candidates(x_mean, w_mean, rule), loss);
      const auto want = values<double>(f, run + ".losses");
      ASSERT_EQ(r.losses.size(), want.size());
      // The largest weight of a symmetric group lies on a tie; F32 may round it the other way.
      const double tolerance = o.symmetric ? 5e-2 : 1e-4;
      for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(r.losses[i], want[i], tolerance * want[i]) << i;
      const auto scales = values<float>(f, run + ".scales");
      for (size_t k = 0; k < scales.size(); ++k) EXPECT_NEAR(r.scales[k], scales[k], 1e-5 * scales[k]);
      if (has(f, run + ".best_ratio")) {
        EXPECT_NEAR(r.ratio, values<double>(f, run + ".best_ratio")[0], 1e-9);
      }
    }
  });
}

TEST(Awq, ClipSearch) {
  for_each_file(kFolder, "awq", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix x = matrix(f, "X"), w = matrix(f, "W0");
    for (const std::string& run : stems(f, ".max")) {
      SCOPED_TRACE(run);
      const auto max = values<float>(f, run + ".max"), err = values<float>(f, run + ".err");
      const int64_t group = static_cast<int64_t>(w.data.size() / max.size());
      const AwqClip c =
          awq_clip(w.view(), x.view(), Format::kInt4, plain_options(run.substr(8), group), run[6] - '0', pool);
      size_t same = 0;
      for (size_t i = 0; i < max.size(); ++i) same += std::fabs(c.max[i] - max[i]) <= 1e-6 * max[i];
      // Ties of the symmetric grid again.
      const bool symmetric = run.ends_with("sym") && !run.ends_with("asym");
      EXPECT_GE(same, max.size() * (symmetric ? 85 : 95) / 100);
      double ours = 0, theirs = 0;
      for (size_t i = 0; i < max.size(); ++i) {
        ours += c.error[i];
        theirs += err[i];
      }
      EXPECT_NEAR(ours, theirs, (symmetric ? 5e-2 : 5e-3) * theirs);
    }
  });
}

TEST(SmoothQuant, Factors) {
  for_each_file(kFolder, "smoothquant", [](const SafetensorsFile& f) {
    const Matrix x = matrix(f, "X"), w0 = matrix(f, "W0"), w1 = matrix(f, "W1");
    const std::vector<MatView<const float>> weights = {w0.view(), w1.view()};
    ChannelRange range(static_cast<int64_t>(x.cols));
    range.add(x.view());
    for (const auto& entry : f.entries()) {
      const std::string name(entry.name);
      if (name == "X" || name.starts_with("W")) continue;
      SCOPED_TRACE(name);
      const SmoothRule rule = name == "logeq"             ? SmoothRule::kLogarithm
                              : name.starts_with("paper") ? SmoothRule::kPaper
                                                          : SmoothRule::kRange;
      const double a = rule == SmoothRule::kLogarithm ? 0.5 : std::stod(name.substr(name.find(".a") + 2));
      const auto got = smooth_factors(range, weights, rule, a), want = values<float>(f, name);
      for (size_t k = 0; k < want.size(); ++k) EXPECT_NEAR(got[k], want[k], 1e-5 * want[k]) << k;
    }
  });
}

TEST(Ranges, SearchesOfOtherTools) {
  for_each_file(kFolder, "ranges_scale_magr_sens", [](const SafetensorsFile& f) {
    const Matrix w = matrix(f, "W");
    const auto importance = values<float>(f, "imp");
    double mean = 0;
    for (const float v : importance) mean += static_cast<double>(v) / static_cast<double>(importance.size());
    for (const std::string& run : stems(f, ".min")) {
      SCOPED_TRACE(run);
      const bool imatrix = run.starts_with("imatrix");
      const size_t dot = run.find(".b");
      const auto mn = values<float>(f, run + ".min"), mx = values<float>(f, run + ".max"),
                 err = values<float>(f, run + ".err");
      const size_t groups = mn.size() / w.rows, g = w.cols / groups;
      const FormatOptions o = plain_options(run.substr(dot + 4), static_cast<int64_t>(g));
      const CodeSpace space = code_space(Format::kInt4, o, run[dot + 2] - '0');
      size_t same = 0;
      for (size_t i = 0; i < mn.size(); ++i) {
        const size_t begin = i % groups * g;
        std::vector<float> weights(g);
        for (size_t j = 0; j < g; ++j) weights[j] = static_cast<float>(importance[begin + j] / mean);
        const GroupRange r = search_range(space, o, {w.view().row(i / groups) + begin, g},
                                          imatrix ? std::span<const float>(weights) : std::span<const float>(),
                                          imatrix ? kImatrixSearch : kMseSearch);
        same += std::fabs(r.min - mn[i]) <= 1e-6 && std::fabs(r.max - mx[i]) <= 1e-6;
        EXPECT_NEAR(r.error, err[i], 0.05 * err[i]) << i;
      }
      EXPECT_GE(same, mn.size() * 95 / 100);
    }
  });
}

TEST(Magr, WeightsAndStep) {
  for_each_file(kFolder, "ranges_scale_magr_sens", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix w = matrix(f, "W"), h = matrix(f, "magr.H");
    const MagrResult r = magr(w.view(), h.view(), {}, pool);
    const auto want = values<float>(f, "magr.W");
    const auto parameters = values<double>(f, "magr.eta_alpha");
    EXPECT_NEAR(r.eta, parameters[0], 1e-3 * parameters[0]);
    EXPECT_NEAR(r.penalty, parameters[1], 1e-3 * parameters[1]);
    double top = 0, top_before = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(r.weights[i], want[i], 1e-3) << i;
      top = std::max(top, std::fabs(static_cast<double>(r.weights[i])));
      top_before = std::max(top_before, std::fabs(static_cast<double>(w.data[i])));
    }
    EXPECT_LT(top, top_before);
  });
}

TEST(Hadamard, MatricesAndProductsOfEverySize) {
  for_each_file(kFolder, "hadamard", [](const SafetensorsFile& f) {
    for (const auto& entry : f.entries()) {
      const std::string name(entry.name);
      SCOPED_TRACE(name);
      if (name[0] == 'H') {
        EXPECT_EQ(small_hadamard(std::stoll(name.substr(1))), values<int8_t>(f, name));
      } else if (name[0] == 'x') {
        const std::string n = name.substr(1);
        const auto sign = values<float>(f, "sign" + n);
        const auto check = [&](const std::string& want_name, HadamardSide side, bool signs) {
          const Matrix x = matrix(f, name);
          const auto want = values<float>(f, want_name);
          for (size_t r = 0; r < x.rows; ++r) {
            std::vector<float> v(x.view().row(r), x.view().row(r) + x.cols);
            for (size_t c = 0; signs && c < v.size(); ++c) v[c] *= sign[c];
            hadamard_any(std::span<float>(v), side);
            for (size_t c = 0; c < v.size(); ++c) EXPECT_NEAR(v[c], want[r * x.cols + c], 1e-5) << want_name << c;
          }
        };
        check("y" + n, HadamardSide::kPlain, false);
        check("yt" + n, HadamardSide::kTransposed, false);
        check("yr" + n, HadamardSide::kPlain, true);
      }
    }
  });
}

// The layers are those of awq.safetensors in the same folder.
TEST(Sensitivity, ScoresOfThreeLayers) {
  size_t found = 0;
  for (const std::string& dir : io::vector_dirs(kFolder)) {
    const SafetensorsFile f = SafetensorsFile::open(path_join(dir, "ranges_scale_magr_sens.safetensors"));
    const SafetensorsFile layers = SafetensorsFile::open(path_join(dir, "awq.safetensors"));
    const auto want = values<double>(f, "sens");
    const Matrix x = matrix(layers, "X");
    for (size_t l = 0; l < want.size() / 6; ++l, ++found) {
      const Matrix w = matrix(layers, "W" + std::to_string(l));
      const LayerScores s = layer_scores(w.view(), x.view());
      // The activation statistics are what the scores hold beside 1 / e8; e8 itself is checked in the unit test, as the
      // vector's first column does not follow from the definition (max over rows of the mean squared error).
      const double got[] = {s.mean_variance / s.weight_quantisation, s.max_variance / s.weight_quantisation,
                            s.mean_magnitude / s.weight_quantisation};
      for (size_t c = 0; c < 3; ++c) {
        const double expected = want[l * 6 + c + 1] / want[l * 6];
        EXPECT_NEAR(got[c], expected, 1e-4 * expected) << l << " " << c;
      }
      EXPECT_NEAR(s.rounding_norm, want[l * 6 + 4], 1e-4 * want[l * 6 + 4]);
      EXPECT_NEAR(s.input_energy, want[l * 6 + 5], 1e-4 * want[l * 6 + 5]);
    }
  }
  EXPECT_GT(found, 0u);
}

TEST(RotationFold, EveryMatrix) {
  for_each_file(kFolder, "rotation_fold", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix r1 = matrix(f, "R1"), r2 = matrix(f, "R2"), r4 = matrix(f, "R4");
    EXPECT_LT(orthogonality_error(r1.view()), 1e-5);
    std::map<std::string, Matrix> m;
    for (const char* name : {"embed", "q", "k", "v", "o", "gate", "up", "down", "head"})
      m[name] = matrix(f, std::string("before.") + name);
    const auto view = [&](const std::string& name) {
      Matrix& x = m.at(name);
      return MatView<float>(x.data.data(), x.rows, x.cols);
    };
    const std::pair<const char*, std::vector<const char*>> norms[] = {
        {"n1", {"q", "k", "v"}}, {"n2", {"gate", "up"}}, {"nf", {"head"}}};
    for (const auto& [norm, readers] : norms) {
      const auto gamma = values<float>(f, std::string("before.") + norm);
      for (const char* reader : readers) fold_norm(view(reader), gamma);
    }
    for (const char* reader : {"embed", "q", "k", "v", "gate", "up", "head"})
      rotate_inputs(view(reader), r1.view(), pool);
    for (const char* writer : {"o", "down"}) rotate_outputs(view(writer), {}, r1.view(), pool);
    rotate_value_heads(view("v"), {}, view("o"), r2.view(), pool);
    rotate_inputs(view("down"), r4.view(), pool);
    for (const auto& [name, got] : m) {
      const auto want = values<float>(f, "after." + name);
      ASSERT_EQ(got.data.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got.data[i], want[i], 1e-5) << name << " " << i;
    }
  });
}

}  // namespace
}  // namespace fettle::compress
