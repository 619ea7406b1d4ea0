#include "compress/pipeline/fused_scales.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/formats/nvfp4.h"

namespace fettle::compress {

std::vector<float> weight_values(const models::Linear& linear) {
  const auto rows = static_cast<size_t>(linear.out_features()), cols = static_cast<size_t>(linear.in_features());
  std::vector<float> out(rows * cols);
  std::vector<int32_t> all(rows);
  std::iota(all.begin(), all.end(), 0);
  kernels::decode_rows(linear.weight(), all, MatView<float>(out.data(), rows, cols));
  return out;
}

std::map<std::string, FormatOptions> fused_numbers(const std::vector<const models::BlockLinear*>& linears,
                                                   const std::function<const LayerPlan*(const std::string&)>& plan_of,
                                                   ThreadPool& pool) {
  std::map<std::string, FormatOptions> out;
  std::map<std::string, float> largest;
  for (const models::BlockLinear* l : linears) {
    const LayerPlan& plan = *plan_of(l->module);
    out[l->module] = plan.numbers;
    const std::string group = fusion_group(l->module);
    if (plan.stored.format != Format::kNvfp4 || group.empty()) continue;
    float& a = largest[group];
    std::vector<float> w = weight_values(*l->linear);
    rotate_weights(plan, w, pool);
    for (const float x : w) a = std::max(a, std::fabs(x));
  }
  for (auto& [module, o] : out)
    if (const auto it = largest.find(fusion_group(module)); it != largest.end())
      o.fixed_global_scale = formats::nvfp4_global_scale(it->second);
  return out;
}

}  // namespace fettle::compress
