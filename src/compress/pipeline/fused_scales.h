#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compress/compress.h"
#include "models/block.h"

namespace fettle::compress {

// Number options of the layers in `linears` (one input), by Hugging Face name: group size of the plan, and for NVFP4
// one global scale per fused group, because runtimes that fuse the matrices read a single one.
std::map<std::string, FormatOptions> fused_numbers(const std::vector<const models::BlockLinear*>& linears,
                                                   const std::function<const LayerPlan*(const std::string&)>& plan_of,
                                                   ThreadPool& pool);

// F32 values of a layer's weight, [out, in].
std::vector<float> weight_values(const models::Linear& linear);

}  // namespace fettle::compress
