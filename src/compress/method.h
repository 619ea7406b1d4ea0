#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/thread_pool.h"
#include "compress/solve/grid.h"
#include "tensor/weight.h"

namespace fettle::compress {

// One linear layer to be quantised.
struct LayerJob {
  const std::string& name;      // "model.layers.0.mlp.up_proj"
  MatView<const float> weight;  // [N, K]
  Format format;
  FormatOptions options;  // group size resolved, shared global scale filled in
  ThreadPool& pool;
  GridSearch search = GridSearch::kAbsMax;  // one that needs no inputs
  double kurtosis_gate = 0;                 // sinq
};

// A way to choose the codes of a layer. One file per method in methods/, one line in methods/registry.cpp.
struct Method {
  std::string_view name;                          // --method
  std::string_view summary;                       // one line for --help
  PackedWeight (*quantise)(const LayerJob& job);  // null: needs calibration data, see pipeline/
  bool column_scales = false;                     // results carry PackedWeight::input.col_scales
};

std::span<const Method> all_methods();             // alphabetical
const Method& find_method(std::string_view name);  // throws kUsage with the list

// SINQ was made for them: integer groups of up to 4 bits have zero points unless asked otherwise.
bool zero_points_by_default(std::string_view method, Format format);

// Relative squared error |W - Q|^2 / |W|^2 of a quantised layer, sums in F64; 0 for an all-zero layer that stayed zero.
double relative_error(MatView<const float> weight, const PackedWeight& quantised, ThreadPool& pool);

}  // namespace fettle::compress
