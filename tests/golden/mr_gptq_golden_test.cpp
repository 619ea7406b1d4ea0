// Vectors of MR-GPTQ and 4-bit floats (tests/data/vectors/01-mr-gptq-fp4/README.md).
#include <cmath>

#include "compress/solve/fused_fp4.h"
#include "compress/solve/gptq.h"
#include "compress/solve/observers.h"
#include "compress/solve/rotation_study.h"
#include "compress/solve/transforms.h"
#include "tensor/formats/codecs.h"
#include "vector_files.h"

namespace fettle::compress {
namespace {

using namespace fettle::golden;

constexpr char kFolder[] = "01-mr-gptq-fp4";

// "hadamard32" -> class and block size.
std::pair<Transform, int64_t> parse(const std::string& stem) {
  const size_t digits = stem.find_first_of("0123456789");
  return {find_transform(stem.substr(0, digits)), std::stoll(stem.substr(digits))};
}

TEST(Transforms, MatricesAndRotatedWeights) {
  for_each_file(kFolder, "transforms", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    for (const std::string& stem : stems(f, ".matrix")) {
      SCOPED_TRACE(stem);
      const auto [kind, k] = parse(stem);
      const auto want = values<double>(f, stem + ".matrix"), got = transform_matrix(kind, k);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << i;
    }
    const Matrix w = matrix(f, "w");
    for (const std::string& stem : stems(f, ".w_rot")) {
      SCOPED_TRACE(stem);
      const auto [kind, k] = parse(stem);
      const auto want = values<float>(f, stem + ".w_rot");
      std::vector<float> got(want.size());
      apply_blocks(kind, k, w.view(), {got.data(), w.rows, w.cols}, pool);
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6) << i;
    }
  });
}

FpQuantFormat fpquant_format(const std::string& stem) {
  if (stem.find("_asym") != std::string::npos) return FpQuantFormat::kInt4Asymmetric;
  if (stem.starts_with("nvfp4")) return FpQuantFormat::kNvfp4;
  if (stem.starts_with("mxfp4")) return FpQuantFormat::kMxfp4;
  return stem.starts_with("fp4") ? FpQuantFormat::kFp4 : FpQuantFormat::kInt4;
}

TEST(FpQuantQuantiser, ScalesValuesAndCodes) {
  for_each_file(kFolder, "fpquant_quantizer", [](const SafetensorsFile& f) {
    const Matrix w = matrix(f, "w");
    for (const std::string& stem : stems(f, ".dequant")) {
      SCOPED_TRACE(stem);
      const auto want_scales = values<float>(f, stem + ".scales");
      const auto group = static_cast<int64_t>(w.data.size() / want_scales.size());
      const bool mse = stem.ends_with("_mse");
      const FpQuantResult r =
          fpquant_quantise(w.view(), fpquant_format(stem), mse ? Observer::kMse : Observer::kMinMax, group);
      ASSERT_EQ(r.scales.size(), want_scales.size());
      const auto q = values<float>(f, stem + ".q"), dequant = values<float>(f, stem + ".dequant");
      size_t other_candidates = 0;
      for (size_t g = 0; g < r.scales.size(); ++g) {
        if (std::fabs(r.scales[g] - want_scales[g]) > 1e-6 * std::fabs(want_scales[g])) {
          ASSERT_TRUE(mse) << g << ": " << r.scales[g] << " vs " << want_scales[g];
          // A neighbouring candidate of equal error.
          double ours = 0, theirs = 0;
          for (size_t i = g * static_cast<size_t>(group); i < (g + 1) * static_cast<size_t>(group); ++i) {
            ours += std::pow(std::fabs(static_cast<double>(r.dequant[i]) - w.data[i]), 2.4);
            theirs += std::pow(std::fabs(static_cast<double>(dequant[i]) - w.data[i]), 2.4);
          }
          EXPECT_NEAR(ours, theirs, 0.1 * theirs);
          ++other_candidates;
          continue;
        }
        for (size_t i = g * static_cast<size_t>(group); i < (g + 1) * static_cast<size_t>(group); ++i) {
          if (r.q[i] == q[i]) continue;
          // Only where x lies on a boundary between the two values.
          const double middle = 0.5 * (static_cast<double>(r.dequant[i]) + static_cast<double>(dequant[i]));
          EXPECT_NEAR(middle, w.data[i], 1e-6 * std::fabs(w.data[i]) + 1e-9) << i;
        }
      }
      EXPECT_LE(other_candidates, r.scales.size() / 50);
    }
  });
}

Grid vector_grid(const SafetensorsFile& f, const std::string& stem, const Matrix& w) {
  Grid g;
  const bool integer = stem.starts_with("int4");
  g.format = integer ? Format::kInt4 : stem.starts_with("mxfp4") ? Format::kMxfp4 : Format::kNvfp4;
  g.rows = static_cast<int64_t>(w.rows);
  g.cols = static_cast<int64_t>(w.cols);
  g.group_size = g.cols / f.tensor(stem + ".scales").dim(1);
  g.scales = values<float>(f, stem + ".scales");
  return g;
}

TEST(GptqLayer, CodesAndErrorsOfEveryCase) {
  for_each_file(kFolder, "gptq_layer", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix w = matrix(f, "w"), h = matrix(f, "H");
    for (const std::string& stem : stems(f, ".err")) {
      SCOPED_TRACE(stem);
      const Grid grid = vector_grid(f, stem, w);
      const bool rotate = stem.find("_hadamard_") != std::string::npos;
      const Transform kind = rotate ? Transform::kHadamard : Transform::kIdentity;
      std::vector<float> rotated(w.data.size());
      apply_blocks(kind, grid.group_size, w.view(), {rotated.data(), w.rows, w.cols}, pool);
      const std::vector<float> moments = transform_hessian(kind, grid.group_size, h.view(), pool);
      const bool order = stem.find("_activation_") != std::string::npos;
      const RoundResult r = gptq_round({rotated.data(), w.rows, w.cols}, {moments.data(), h.rows, h.cols}, grid,
                                       {.act_order = order}, pool);
      const auto want = values<int8_t>(f, stem + ".q");
      size_t same = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        const double q = grid.format == Format::kInt4 ? r.codes[i] - 8.0
                                                      : 2.0 * static_cast<double>(formats::e2m1_to_f32(r.codes[i]));
        same += q == static_cast<double>(want[i]);
      }
      EXPECT_GE(static_cast<double>(same), 0.97 * static_cast<double>(want.size()));
      const auto err = values<double>(f, stem + ".err");
      EXPECT_NEAR(r.report.rtn_objective, err[0], 0.02 * err[0]);
      EXPECT_LE(r.report.objective, 1.02 * err[1]);
    }
  });
}

TEST(GptqLayer, HessianWeightedSearchBeatsTheObserver) {
  for_each_file(kFolder, "gptq_layer", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix w = matrix(f, "w"), h = matrix(f, "H");
    std::vector<float> diagonal(h.rows);
    for (size_t i = 0; i < h.rows; ++i) diagonal[i] = h.view().row(i)[i];
    const Grid plain = make_grid(w.view(), Format::kNvfp4, {}, GridSearch::kAbsMax, {}, pool);
    const Grid searched = make_grid(w.view(), Format::kNvfp4, {}, GridSearch::kHessian, diagonal, pool);
    const RoundReport a = gptq_round(w.view(), h.view(), plain, {}, pool).report;
    const RoundReport b = gptq_round(w.view(), h.view(), searched, {}, pool).report;
    EXPECT_LT(b.rtn_objective, 0.5 * a.rtn_objective);
    EXPECT_LT(b.objective, 0.7 * a.objective);
  });
}

TEST(Nvfp4ScaleSearch, ReachesTheReference) {
  for_each_file(kFolder, "nvfp4_scale_search", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    for (const std::string& stem : stems(f, ".rel_sq_err")) {
      SCOPED_TRACE(stem);
      const Matrix w = matrix(f, stem + ".w");
      const auto want = values<double>(f, stem + ".rel_sq_err");
      const auto error = [&](const Grid& g) {
        std::vector<uint8_t> codes(w.data.size());
        round_to_grid(g, w.view(), codes, pool);
        double lost = 0, whole = 0;
        for (size_t i = 0; i < w.data.size(); ++i) {
          const double d = static_cast<double>(grid_value(g, static_cast<int64_t>(i / w.cols),
                                                          static_cast<int64_t>(i % w.cols), codes[i])) -
                           w.data[i];
          lost += d * d;
          whole += static_cast<double>(w.data[i]) * w.data[i];
        }
        return lost / whole;
      };
      const Grid plain = make_grid(w.view(), Format::kNvfp4, {}, GridSearch::kAbsMax, {}, pool);
      // The reference rounds in F64: a maximum on the boundary of two codes may go the other way.
      EXPECT_GE(agreement(plain.stored, values<uint8_t>(f, stem + ".absmax_codes")), 0.99);
      EXPECT_NEAR(error(plain), want[0], 1e-4 * want[0]);
      FormatOptions fixed;
      fixed.fixed_global_scale = static_cast<float>(1 / values<double>(f, stem + ".absmax_sT")[0]);
      EXPECT_LE(error(make_grid(w.view(), Format::kNvfp4, fixed, GridSearch::kMse, {}, pool)), 1.001 * want[1]);
      EXPECT_LE(error(make_grid(w.view(), Format::kNvfp4, {}, GridSearch::kMse, {}, pool)), 1.001 * want[2]);
    }
  });
}

TEST(ScaleSwizzle, BitExact) {
  for_each_file(kFolder, "scale_swizzle", [](const SafetensorsFile& f) {
    for (const std::string& stem : stems(f, ".rowmajor")) {
      SCOPED_TRACE(stem);
      const Tensor t = f.tensor(stem + ".rowmajor");
      EXPECT_EQ(to_blocked(values<uint8_t>(f, stem + ".rowmajor"), t.dim(0), t.dim(1)),
                values<uint8_t>(f, stem + ".blocked"));
    }
  });
}

TEST(W4A4Linear, IntegerDotsAndOutputs) {
  for_each_file(kFolder, "w4a4_linear", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const Matrix x = matrix(f, "x"), w = matrix(f, "w");
    for (const std::string& stem : stems(f, ".group_int_dots")) {
      SCOPED_TRACE(stem);
      const bool nv = stem == "nvfp4";
      const int64_t k = nv ? 16 : 32;
      const auto quantise = [&](const Matrix& m, const std::string& scale_name, const std::string& factor) {
        std::vector<float> rotated(m.data.size());
        apply_blocks(Transform::kHadamard, k, m.view(), {rotated.data(), m.rows, m.cols}, pool);
        const float global = nv ? values<float>(f, stem + factor)[0] : 0.0f;
        const Fp4Matrix q =
            quantise_fp4({rotated.data(), m.rows, m.cols}, nv ? Format::kNvfp4 : Format::kMxfp4, global);
        const auto scales = values<uint8_t>(f, stem + scale_name);
        EXPECT_GE(agreement(q.scales, scales), 0.99);
        return q;
      };
      Fp4Matrix qx = quantise(x, ".x_scale", ".x_global_scale"), qw = quantise(w, ".w_scale", ".w_global_scale");
      // Rotations in another order move a value across a boundary now and then: products are checked on their codes.
      const auto x_codes = unpack_nibbles(values<uint8_t>(f, stem + ".x_packed")),
                 w_codes = unpack_nibbles(values<uint8_t>(f, stem + ".w_packed"));
      EXPECT_GE(agreement(qx.codes, x_codes), 0.999);
      EXPECT_GE(agreement(qw.codes, w_codes), 0.999);
      qx.codes = x_codes;
      qw.codes = w_codes;
      qx.scales = values<uint8_t>(f, stem + ".x_scale");
      qw.scales = values<uint8_t>(f, stem + ".w_scale");
      EXPECT_EQ(group_dots(qx, qw), values<int16_t>(f, stem + ".group_int_dots"));
      const auto y = fp4_matmul(qx, qw);
      const auto want = values<double>(f, stem + ".y");
      double largest = 0;
      for (const double v : want) largest = std::max(largest, std::fabs(v));
      for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(y[i], want[i], 1e-5 * largest) << i;
    }
  });
}

TEST(FusedQuantise, CodesScalesMasksAndValues) {
  for_each_file(kFolder, "qutlass_fused_quantize", [](const SafetensorsFile& f) {
    const Matrix x = matrix(f, "x");
    for (const std::string& stem : stems(f, ".packed")) {
      SCOPED_TRACE(stem);
      // "mx_quest_h32", "nv_absmax_h64_gs6"
      const bool nv = stem.starts_with("nv_");
      const FusedScale rule = nv                                        ? FusedScale::kNvAbsMax
                              : stem.find("quest") != std::string::npos ? FusedScale::kMxQuest
                                                                        : FusedScale::kMxAbsMax;
      const auto k = static_cast<size_t>(std::stoi(stem.substr(stem.find("_h") + 2)));
      std::vector<float> rotation;
      for (const double v : transform_matrix(Transform::kHadamard, static_cast<int64_t>(k)))
        rotation.push_back(formats::bf16_to_f32(formats::f32_to_bf16(static_cast<float>(v))));
      const float global = nv ? std::stof(stem.substr(stem.find("_gs") + 3)) : 1.0f;
      const FusedFp4 r = fused_quantise(x.view(), {rotation.data(), k, k}, rule, global);
      EXPECT_EQ(r.matrix.scales, values<uint8_t>(f, stem + (nv ? ".e4m3" : ".e8m0")));
      EXPECT_GE(agreement(r.matrix.codes, unpack_nibbles(values<uint8_t>(f, stem + ".packed"))), 0.999);
      if (!nv) {
        EXPECT_GE(agreement(unpack_bits(r.clip_mask), unpack_bits(values<uint8_t>(f, stem + ".clip_mask"))), 0.999);
      }
      const auto want = values<float>(f, stem + ".dequant");
      size_t other = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        const float got = r.value(static_cast<int64_t>(i / x.cols), static_cast<int64_t>(i % x.cols));
        other += std::fabs(got - want[i]) > 1e-6f * std::fabs(want[i]);
      }
      EXPECT_LE(other, want.size() / 1000);
    }
  });
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kStudySamples = 1 << 15;  // an instrumented build is some twenty times slower
#else
constexpr int64_t kStudySamples = 1 << 18;
#endif

double cell(const RotationRow& row, size_t column) {
  const RotationError& e = column < 2 ? row.native : column < 4 ? row.rotated : row.normal;
  return column % 2 == 0 ? e.rel : e.top;
}

// The reference is one draw of 2^20 numbers, of which groups of 1024 leave 1024 errors: the tolerance is the README's
// or four deviations of the difference from our mean, whichever is more. Deviations come from our draws and shrink with
// the root of the numbers. For one kind of cell a draw says little: under E4M3 scales the error of an unrotated top
// element is that of the scale, and depends on where between two codes the largest of all numbers puts it. There the
// reference has to lie in the range that all places of an octave give, widened by the README's tolerance.
TEST(RotationStudy, EveryCellOfTheTables) {
  for_each_file(kFolder, "rotation_crossover", [](const SafetensorsFile& f) {
    ThreadPool pool(2);
    const auto sizes = values<int64_t>(f, "group_sizes");
    const auto groups = rotation_study_groups();
    ASSERT_EQ(sizes, std::vector<int64_t>(groups.begin(), groups.end()));
    constexpr int kSeeds = 8;
    std::vector<std::vector<RotationTable>> draws;
    for (uint64_t seed = 0; seed < kSeeds; ++seed)
      draws.push_back(rotation_study({.samples = kStudySamples, .seed = seed}, pool));
    std::vector<std::vector<RotationTable>> places;
    for (int i = 0; i < 16; ++i)
      places.push_back(
          rotation_study({.samples = kStudySamples / 4, .largest = 8 * static_cast<float>(std::exp2(i / 16.0))}, pool));
    for (size_t t = 0; t < draws[0].size(); ++t) {
      const std::string name(draws[0][t].format);
      SCOPED_TRACE(name);
      const auto want = values<double>(f, name);
      ASSERT_EQ(want.size(), sizes.size() * 6);
      for (size_t i = 0; i < want.size(); ++i) {
        SCOPED_TRACE("group " + std::to_string(sizes[i / 6]) + " column " + std::to_string(i % 6));
        if (name.starts_with("nv") && (i % 6 == 1 || i % 6 == 5)) {
          double low = 1, high = 0;
          for (const auto& place : places) {
            low = std::min(low, cell(place[t].rows[i / 6], i % 6));
            high = std::max(high, cell(place[t].rows[i / 6], i % 6));
          }
          EXPECT_GE(want[i], 0.9 * low);
          EXPECT_LE(want[i], 1.1 * high);
          continue;
        }
        double sum = 0, square = 0;
        for (const auto& draw : draws) {
          const double value = cell(draw[t].rows[i / 6], i % 6);
          sum += value;
          square += value * value;
        }
        const double mean = sum / kSeeds, deviation = std::sqrt(std::max(0.0, square - sum * mean) / (kSeeds - 1));
        // Of the difference: the reference is one draw of its size, our mean is of kSeeds draws of ours.
        const double spread = deviation * std::sqrt(static_cast<double>(kStudySamples) / (1 << 20) + 1.0 / kSeeds);
        const double tolerance = (i % 2 == 0 ? 0.02 : 0.10) * want[i];
        // An exact scale leaves the top element to F32 roundings: squares of about 2^-24.
        EXPECT_NEAR(mean, want[i], std::max(tolerance, 4 * spread) + 1e-13);
      }
    }
  });
}

}  // namespace
}  // namespace fettle::compress
