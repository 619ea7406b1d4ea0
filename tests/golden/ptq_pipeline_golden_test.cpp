// Vectors of the calibration pipeline's mathematics (tests/data/vectors/ptq-pipeline/README.md).
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "compress/solve/awq.h"
#include "compress/solve/factor.h"
#include "compress/solve/gptq.h"
#include "compress/solve/group_fit.h"
#include "compress/solve/magr.h"
#include "compress/solve/rotate.h"
#include "compress/solve/round_checks.h"
#include "compress/solve/scale_estimation.h"
#include "compress/solve/sensitivity.h"
#include "compress/solve/smoothquant.h"
#include "compress/solve/transforms.h"
#include "rounding_ties.h"

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
      const Grid grid = vector_grid(f, key, group);
      // Recomputed scales follow the symmetric or asymmetric rule; symmetric codes keep the middle as zero point.
      Grid dynamic = grid;
      if (symmetric) {
        dynamic.options.symmetric = true;
        dynamic.zeros.clear();
      }
      const auto check = [&](const std::string& variant, RoundResult r, bool act_order, bool diffused) {
        SCOPED_TRACE(variant);
        const std::string at = key + "." + variant;
        Diffusion want{.codes = values<uint8_t>(f, at + ".codes"),
                       .grid = grid,
                       .order = act_order ? activation_order(h.view()) : identity_order(w.cols),
                       .u = {},
                       .v = {}};
        want.v = ordered(w.view(), want.order);
        want.grid.group_of = r.grid.group_of;
        if (has(f, at + ".scale")) {
          want.grid.scales = values<float>(f, at + ".scale");
          want.grid.zeros.clear();
          for (const float z : values<float>(f, at + ".zero")) want.grid.zeros.push_back(static_cast<uint8_t>(z));
        }
        if (diffused) {
          const auto u = robust_inverse_factor<double>(h.view(), want.order, dead_columns(h.view()),
                                                       0.01 * mean_live_diagonal(h.view()));
          ASSERT_TRUE(u.has_value());
          want.u = *u;
        }
        // absmax / 7.5 puts the largest weight of each symmetric group on a tie, which the reference breaks by the last
        // bit of a scale in F64, of which the vector keeps the F32 rounding.
        const std::set<size_t> tied = rows_with_ties(want, r.codes, kF32Tie);
        EXPECT_LE(tied.size(), symmetric ? w.rows * 3 / 4 : 0) << "rows with ties";
        for (const size_t row : tied) {
          std::copy_n(want.codes.begin() + static_cast<std::ptrdiff_t>(row * w.cols), w.cols,
                      r.codes.begin() + static_cast<std::ptrdiff_t>(row * w.cols));
          for (auto i = static_cast<size_t>(groups) * row; i < static_cast<size_t>(groups) * (row + 1); ++i)
            r.grid.scales[i] = want.grid.scales[i];
        }
        for (size_t i = 0; i < want.grid.scales.size(); ++i)
          EXPECT_NEAR(r.grid.scales[i], want.grid.scales[i], 1e-5 * want.grid.scales[i]) << i;
        if (!r.grid.zeros.empty()) {
          EXPECT_EQ(r.grid.zeros, want.grid.zeros);
        }
        const double error = values<double>(f, at + ".relerr")[0];
        EXPECT_NEAR(relative_objective(w.view(), h.view(), r.grid, r.codes, pool), error, 1e-4 * error);
        if (tied.empty()) {
          EXPECT_NEAR(r.report.objective, error, 1e-4 * error);
        }
      };
      check("rtn", rtn_round(w.view(), h.view(), grid, pool), false, false);
      check("noorder_static", gptq_round(w.view(), h.view(), grid, {.act_order = false}, pool), false, true);
      check("actorder_static", gptq_round(w.view(), h.view(), grid, {.act_order = true}, pool), true, true);
      check("noorder_dynamic",
            gptq_round(w.view(), h.view(), dynamic, {.act_order = false, .dynamic_groups = true}, pool), false, true);
      const RoundResult permuted = gptq_round(
          w.view(), h.view(), dynamic, {.act_order = true, .dynamic_groups = true, .permuted_groups = true}, pool);
      check("actorder_group", permuted, true, true);
      EXPECT_EQ(permuted.grid.group_of, values<int32_t>(f, key + ".actorder_group.g_idx"));
    }
  });
}

FormatOptions plain_options(const std::string& symmetry, int64_t group) {
  return {.group_size = group, .symmetric = symmetry == "sym", .scale_dtype = DType::kF32};
}

struct LossRange {
  double low = 0, high = 0;
};

// The losses of one candidate that the ties of a symmetric grid allow: a group's largest weight, when negative, may
// become either of the codes half a step away from it, as the last bit of the scaled weights decides (pow() differs in
// that bit between libraries). Rows contribute on their own, so the least and largest sums are those over rows.
LossRange tie_range(MatView<const float> x, std::span<const MatView<const float>> weights,
                    std::span<const double> scales, const FormatOptions& o, int bits, ThreadPool& pool) {
  LossRange out;
  size_t outputs = 0;
  const auto g = static_cast<size_t>(o.group_size);
  const double middle = (std::exp2(bits) - 1) / 2;
  for (const auto& w : weights) {
    std::vector<double> q(w.rows * w.cols);
    awq_fake_quantise(w, scales, Format::kInt4, o, bits, {q.data(), w.rows, w.cols}, pool);
    for (size_t r = 0; r < w.rows; ++r) {
      std::vector<double> d(w.cols);
      std::vector<size_t> ties;
      for (size_t c = 0; c < w.cols; ++c) d[c] = static_cast<double>(w.row(r)[c]) - q[r * w.cols + c];
      for (size_t b = 0; b < w.cols; b += g) {
        size_t top = b;
        const auto scaled = [&](size_t c) { return static_cast<double>(w.row(r)[c]) * scales[c]; };
        for (size_t c = b; c < b + g; ++c)
          if (std::fabs(scaled(c)) > std::fabs(scaled(top))) top = c;
        if (scaled(top) >= 0) continue;
        // Half a step above and below.
        EXPECT_NEAR(std::fabs(d[top]), -static_cast<double>(w.row(r)[top]) / middle / 2, 1e-9);
        ties.push_back(top);
      }
      double low = std::numeric_limits<double>::infinity(), high = 0;
      for (size_t choice = 0; choice < size_t{1} << ties.size(); ++choice) {
        for (size_t i = 0; i < ties.size(); ++i)
          d[ties[i]] = choice >> i & 1 ? std::fabs(d[ties[i]]) : -std::fabs(d[ties[i]]);
        double loss = 0;
        for (size_t t = 0; t < x.rows; ++t) {
          double y = 0;
          for (size_t c = 0; c < w.cols; ++c) y += d[c] * static_cast<double>(x.row(t)[c]);
          loss += y * y;
        }
        low = std::min(low, loss);
        high = std::max(high, loss);
      }
      out.low += low;
      out.high += high;
    }
    outputs += x.rows * w.rows;
  }
  out.low /= static_cast<double>(outputs);
  out.high /= static_cast<double>(outputs);
  return out;
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
      const auto loss = [&](std::span<const double> s) {
        return awq_output_loss(x.view(), weights, s, Format::kInt4, o, bits, pool);
      };
      const auto candidates = awq_candidates(x_mean, w_mean, rule);
      const AwqResult r = awq_search(candidates, loss);
      const auto want = values<double>(f, run + ".losses");
      ASSERT_EQ(r.losses.size(), want.size());
      size_t best = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        if (want[i] < want[best]) best = i;
        if (o.symmetric && !candidates[i].identity) {
          const LossRange range = tie_range(x.view(), weights, candidates[i].scales, o, bits, pool);
          EXPECT_LE(range.high, 1.25 * range.low) << i;  // the range says something
          EXPECT_GE(want[i], range.low * (1 - 1e-4)) << i;
          EXPECT_LE(want[i], range.high * (1 + 1e-4)) << i;
        } else {
          EXPECT_NEAR(r.losses[i], want[i], 1e-4 * want[i]) << i;
        }
      }
      // Ties may let another candidate win by less than they move a loss.
      const AwqCandidate& theirs = candidates[best];
      if (!o.symmetric) {
        EXPECT_EQ(r.best, best);
      } else {
        EXPECT_GE(r.losses[r.best], tie_range(x.view(), weights, theirs.scales, o, bits, pool).low);
      }
      const auto scales = values<float>(f, run + ".scales");
      for (size_t k = 0; k < scales.size(); ++k) EXPECT_NEAR(theirs.scales[k], scales[k], 1e-5 * scales[k]);
      if (has(f, run + ".best_ratio")) {
        EXPECT_NEAR(theirs.ratio, values<double>(f, run + ".best_ratio")[0], 1e-9);
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
      ASSERT_EQ(c.max.size(), max.size());
      for (size_t i = 0; i < max.size(); ++i) {
        EXPECT_NEAR(c.max[i], max[i], 1e-6 * max[i]) << i;
        EXPECT_NEAR(c.error[i], err[i], 1e-4 * err[i]) << i;
      }
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
      for (size_t i = 0; i < mn.size(); ++i) {
        const size_t begin = i % groups * g;
        std::vector<float> weights(g);
        for (size_t j = 0; j < g; ++j) weights[j] = static_cast<float>(importance[begin + j] / mean);
        const GroupRange r = search_range(space, o, {w.view().row(i / groups) + begin, g},
                                          imatrix ? std::span<const float>(weights) : std::span<const float>(),
                                          imatrix ? kImatrixSearch : kMseSearch);
        EXPECT_NEAR(r.min, mn[i], 1e-6) << i;
        EXPECT_NEAR(r.max, mx[i], 1e-6) << i;
        EXPECT_NEAR(r.error, err[i], 1e-5 * err[i]) << i;
      }
    }
  });
}

TEST(Ranges, ScaleEstimation) {
  for_each_file(kFolder, "ranges_scale_magr_sens", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix w = matrix(f, "W");
    const Tensor samples = f.tensor("samples");  // [S, T, K]
    const auto x = samples.to_f32();
    const auto count = static_cast<size_t>(samples.dim(0)), tokens = static_cast<size_t>(samples.dim(1));
    std::vector<float> means(count * w.cols);
    for (size_t s = 0; s < count; ++s)
      for (size_t k = 0; k < w.cols; ++k) {
        double sum = 0;
        for (size_t t = 0; t < tokens; ++t) sum += static_cast<double>(x[(s * tokens + t) * w.cols + k]);
        means[s * w.cols + k] = static_cast<float>(sum / static_cast<double>(tokens));
      }
    for (const std::string& run : stems(f, ".scale0")) {
      SCOPED_TRACE(run);
      const auto first = values<float>(f, run + ".scale0"), scale = values<float>(f, run + ".scale"),
                 zero = values<float>(f, run + ".zero"), err0 = values<float>(f, run + ".err0"),
                 err = values<float>(f, run + ".err");
      const auto group = static_cast<int64_t>(w.data.size() / first.size());
      const FormatOptions o = plain_options(run.substr(3), group);
      const ScaleEstimates r = estimate_scales(w.view(), {means.data(), count, w.cols}, Format::kInt4, o, pool);
      for (size_t i = 0; i < first.size(); ++i) {
        EXPECT_NEAR(r.first_scales[i], first[i], 1e-5 * std::fabs(first[i])) << i;
        EXPECT_NEAR(r.grid.scales[i], scale[i], 1e-5 * std::fabs(scale[i])) << i;
        EXPECT_EQ(o.symmetric ? 0 : r.grid.zeros[i], zero[i]) << i;
        EXPECT_NEAR(r.first_errors[i], err0[i], 1e-4 * err0[i]) << i;
        EXPECT_NEAR(r.errors[i], err[i], 1e-4 * err[i]) << i;
      }
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
    EXPECT_NEAR(r.eta, parameters[0], 1e-6 * parameters[0]);
    EXPECT_NEAR(r.penalty, parameters[1], 1e-6 * parameters[1]);
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
      const double got[] = {s.weight_quantisation, s.mean_variance, s.max_variance, s.mean_magnitude};
      for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(got[c], want[l * 6 + c], 1e-4 * want[l * 6 + c]) << l << " " << c;
      EXPECT_NEAR(s.rounding_norm, want[l * 6 + 4], 1e-4 * want[l * 6 + 4]);
      EXPECT_NEAR(s.input_energy, want[l * 6 + 5], 1e-4 * want[l * 6 + 5]);
    }
  }
  EXPECT_GT(found, 0u);
}

// The toy block of rotation_fold.safetensors in F64: one decoder block without positions, causal grouped attention with
// heads of `head` numbers, SwiGLU. Weights are [out, in]; norms empty: ones.
struct ToyBlock {
  const std::map<std::string, Matrix>& w;
  std::map<std::string, std::vector<float>> norms = {};
  MatView<const float> online = {};  // rotation of down's inputs

  using Rows = std::vector<std::vector<double>>;

  Rows linear(const Rows& x, MatView<const float> m) const {
    Rows y;
    for (const auto& row : x) {
      std::vector<double> out(m.rows, 0.0);
      for (size_t o = 0; o < m.rows; ++o)
        for (size_t i = 0; i < m.cols; ++i) out[o] += row[i] * static_cast<double>(m.row(o)[i]);
      y.push_back(out);
    }
    return y;
  }
  Rows linear(const Rows& x, const std::string& name) const { return linear(x, w.at(name).view()); }

  Rows norm(Rows x, const std::string& name) const {
    const auto gamma = norms.find(name);
    for (auto& row : x) {
      double square = 0;
      for (const double v : row) square += v * v / static_cast<double>(row.size());
      for (size_t i = 0; i < row.size(); ++i)
        row[i] *= (gamma == norms.end() ? 1.0 : static_cast<double>(gamma->second[i])) / std::sqrt(square + 1e-5);
    }
    return x;
  }

  Rows attention(const Rows& h, size_t head) const {
    const Rows q = linear(h, "q"), k = linear(h, "k"), v = linear(h, "v");
    const size_t heads = q[0].size() / head, shared = heads / (k[0].size() / head);
    Rows out(h.size(), std::vector<double>(q[0].size(), 0.0));
    for (size_t t = 0; t < h.size(); ++t)
      for (size_t a = 0; a < heads; ++a) {
        const size_t kv = a / shared * head;
        std::vector<double> weight(t + 1, 0.0);
        double sum = 0;
        for (size_t s = 0; s <= t; ++s) {
          for (size_t i = 0; i < head; ++i) weight[s] += q[t][a * head + i] * k[s][kv + i];
          weight[s] = std::exp(weight[s] / std::sqrt(static_cast<double>(head)));
          sum += weight[s];
        }
        for (size_t s = 0; s <= t; ++s)
          for (size_t i = 0; i < head; ++i) out[t][a * head + i] += weight[s] / sum * v[s][kv + i];
      }
    return linear(out, "o");
  }

  Rows feed_forward(const Rows& h) const {
    Rows m = linear(h, "gate");
    const Rows up = linear(h, "up");
    for (size_t t = 0; t < m.size(); ++t)
      for (size_t i = 0; i < m[t].size(); ++i) m[t][i] *= up[t][i] / (1 + std::exp(-m[t][i]));
    if (online.rows > 0) {
      std::vector<float> transposed;  // x R4 as a product with [out, in]
      for (size_t o = 0; o < online.cols; ++o)
        for (size_t i = 0; i < online.rows; ++i) transposed.push_back(online.row(i)[o]);
      m = linear(m, {transposed.data(), online.cols, online.rows});
    }
    return linear(m, "down");
  }

  Rows logits(std::span<const int64_t> ids, size_t head) const {
    Rows x;
    for (const int64_t id : ids) {
      const float* row = w.at("embed").view().row(static_cast<size_t>(id));
      x.emplace_back(row, row + w.at("embed").cols);
    }
    const auto add = [&](const Rows& y) {
      for (size_t t = 0; t < x.size(); ++t)
        for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
    };
    add(attention(norm(x, "n1"), head));
    add(feed_forward(norm(x, "n2")));
    return linear(norm(x, "nf"), "head");
  }
};

void expect_logits(const ToyBlock::Rows& got, std::span<const float> want) {
  ASSERT_EQ(got.size() * got[0].size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i / got[0].size()][i % got[0].size()], want[i], 1e-5) << i;
}

TEST(RotationFold, EveryMatrixAndTheLogits) {
  for_each_file(kFolder, "rotation_fold", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix r1 = matrix(f, "R1"), r2 = matrix(f, "R2"), r4 = matrix(f, "R4");
    EXPECT_LT(orthogonality_error(r1.view()), 1e-5);
    std::map<std::string, Matrix> m;
    for (const char* name : {"embed", "q", "k", "v", "o", "gate", "up", "down", "head"})
      m[name] = matrix(f, std::string("before.") + name);
    const auto ids = values<int64_t>(f, "ids");
    const size_t head = r2.rows;
    {
      ToyBlock original{m};
      for (const char* norm : {"n1", "n2", "nf"})
        original.norms[norm] = values<float>(f, std::string("before.") + norm);
      expect_logits(original.logits(ids, head), values<float>(f, "logits"));
    }
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
    for (const char* norm : {"after.n1", "after.n2", "after.nf"})
      for (const float v : values<float>(f, norm)) EXPECT_EQ(v, 1.0f) << norm;
    const auto folded = ToyBlock{m, {}, r4.view()}.logits(ids, head);
    expect_logits(folded, values<float>(f, "logits_folded"));
    expect_logits(folded, values<float>(f, "logits"));
  });
}

}  // namespace
}  // namespace fettle::compress
