#include "machine_limits.h"

#include <algorithm>
#include <map>

#include "base/cpu.h"
#include "kernels/roofline.h"
#include "models/model.h"

namespace fettle::cli {

std::string main_format(const models::Model& model) {
  std::map<std::string, size_t> bytes;
  for (const models::TensorSummary& t : model.tensors())
    if (t.shape.size() > 1 && t.name != "model.embed_tokens.weight") bytes[t.format] += t.bytes;
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "none" : most->first;
}

eval::MachineLimits measure_limits(const models::Model& model, bool int8_activations, ThreadPool& pool) {
  const kernels::Roofline r = kernels::measure_roofline(pool, active_isa());
  const std::string format = main_format(model);
  const bool float_products =
      format == "f32" || format == "f16" || format == "bf16" || format == "fp8" || format == "mxfp8";
  double giga = int8_activations ? r.int8_gops : r.int16_gops;
  if (float_products) giga = format == "bf16" && r.bf16_gflops > 0 ? r.bf16_gflops : r.f32_gflops;
  return {r.read_gbs * 1e9, giga * 1e9};
}

}  // namespace fettle::cli
