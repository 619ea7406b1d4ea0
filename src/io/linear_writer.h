#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "io/safetensors.h"
#include "tensor/weight.h"

// Packed weights as the tensors and config sections that other tools load:
//   int2, int3, int4 compressed-tensors pack-quantized (W4A16; zero points packed along N)
//   int8             per row and symmetric: int-quantized with dynamic per-token activations (W8A8 preset);
//                    groups or zero points: pack-quantized (W8A16)
//   fp8              float-quantized, weight only
//   mxfp4, mxfp8     mxfp4-pack-quantized, mxfp8-quantized
//   nvfp4            nvfp4-pack-quantized, weight only (NVFP4A16 preset)
//   nf4              bitsandbytes 4-bit serialisation
//   f32, f16, bf16   dense "weight"
// Column scales are written as ".weight_col_scale", which other tools do not know; block Hadamard inputs as upstream's
// transform_config. GGUF block types have no safetensors dialect and are refused with kUsage.
namespace fettle::io {

// The shape of a packed weight before its numbers exist, so that files can be laid out first.
struct WeightPlan {
  Format format = Format::kBF16;
  int64_t rows = 0, cols = 0;
  int64_t group_size = 0;  // resolved; cols = one group per row, 0 for dense
  bool zero_points = false;
  DType scale_dtype = DType::kBF16;
  bool col_scales = false;  // ".weight_col_scale" F32 [K], our own addition (docs/formats.md)
  int64_t hadamard = 0;     // PackedWeight::input.hadamard; goes into transform_config
};
// What encoding [rows, cols] with these options gives. Throws kInput when the dialect cannot hold the shape (K no
// multiple of the group).
WeightPlan plan_weight(Format format, int64_t rows, int64_t cols, const FormatOptions& options);
WeightPlan plan_of(const PackedWeight& w);

// The tensors of one module, and their data in the same order. linear_specs(m, plan_of(w)) announces exactly what
// linear_tensors(m, w) returns. Codes borrow from w where the layout allows it.
std::vector<TensorSpec> linear_specs(const std::string& module, const WeightPlan& plan);
std::vector<std::pair<std::string, Tensor>> linear_tensors(const std::string& module, const PackedWeight& w);

// Collects how every linear module is stored and makes config.json's "quantization_config". One scheme for all gives
// one group that targets "Linear"; several give mixed-precision groups with module names.
class QuantSection {
 public:
  void add(const std::string& module, const WeightPlan& plan);  // dense modules land in "ignore"
  // Null when every module is dense. Throws kUsage when nf4 is mixed with other formats.
  Json json() const;

 private:
  struct Group {
    WeightPlan plan;
    std::vector<std::string> modules;
  };
  std::vector<Group> groups_;
  std::vector<std::string> dense_;
  std::map<int64_t, std::vector<std::string>> rotated_;  // by block size
};

}  // namespace fettle::io
