// Vectors of the calibration pipeline's mathematics (tests/data/vectors/ptq-pipeline/README.md).
#include <algorithm>
#include <cmath>

#include "compress/solve/gptq.h"
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

}  // namespace
}  // namespace fettle::compress
