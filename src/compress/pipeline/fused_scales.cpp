#include "compress/pipeline/fused_scales.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/formats/nvfp4.h"

namespace fettle::compress {

std::string fusion_group(const std::string& module) {
  const size_t dot = module.rfind('.');
  if (dot == std::string::npos) return {};
  const std::string_view part = std::string_view(module).substr(dot + 1);
  const std::string parent = module.substr(0, dot);
  for (const std::string_view name : {"q_proj", "k_proj", "v_proj"})
    if (part == name) return parent + ".qkv";
  for (const std::string_view name : {"gate_proj", "up_proj", "w1", "w3"})
    if (part == name) return parent + ".gate_up";
  return {};
}

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
                                                   const FormatOptions& base) {
  std::map<std::string, FormatOptions> out;
  std::map<std::string, float> largest;
  for (const models::BlockLinear* l : linears) {
    const io::WeightPlan& stored = plan_of(l->module)->stored;
    FormatOptions& o = out[l->module] = base;
    o.group_size = stored.group_size;
    if (stored.format == Format::kNF4) o.scale_dtype = DType::kF32;  // bitsandbytes stores absmax so
    const std::string group = fusion_group(l->module);
    if (stored.format != Format::kNvfp4 || group.empty()) continue;
    float& a = largest[group];
    for (const float x : weight_values(*l->linear)) a = std::max(a, std::fabs(x));
  }
  for (auto& [module, o] : out)
    if (const auto it = largest.find(fusion_group(module)); it != largest.end())
      o.fixed_global_scale = formats::nvfp4_global_scale(it->second);
  return out;
}

}  // namespace fettle::compress
