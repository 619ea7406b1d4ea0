#pragma once

#include <span>
#include <string_view>

#include "compress/pipeline/pipeline.h"
#include "compress/solve/gptq.h"
#include "tensor/weight.h"

namespace fettle::compress {

struct RoundJob;
struct Rounded;

// A method: what the pipeline collects for it, and how it chooses codes.
struct Rounder {
  std::string_view name;  // --method
  bool cross = false;     // needs the float stream too (G)
  Rounded (*round)(const RoundJob& job, const Grid& grid) = nullptr;
  Smoothing smoothing = Smoothing::kNone;  // default of the method
  // Instead of round: no grid, so no weighted --search, and no factor of H, so no --damping; reads mean_abs.
  Rounded (*encode)(const RoundJob& job) = nullptr;
  GridSearch search = GridSearch::kAbsMax;  // default of the method
  int64_t hadamard = 0;                     // default of the method, as in CompressOptions
};
const Rounder* find_rounder(std::string_view name);  // nullptr for methods without calibration

bool needs_float_stream(const CompressPlan& plan);
bool needs_magnitudes(const CompressPlan& plan);  // E|x|

struct RoundJob {
  const Rounder& rounder;
  const PipelineOptions& options;
  MatView<const float> w;           // [N, K]
  MatView<const float> h;           // [K, K]
  MatView<const float> g;           // [K, K], or empty
  MatView<const float> means;       // [samples, K] every sample's mean input
  std::span<const float> scales;    // [K] that the inputs were divided by and w's columns multiplied; or empty
  MatView<const float> clip_rows;   // inputs for AWQ's clip search, or empty: no clipping
  std::span<const float> mean_abs;  // [K] E|x|, or empty
  const std::string& name;
  const LayerPlan& plan;
  Format format;
  FormatOptions numbers;  // group size resolved, shared global scale filled in
  ThreadPool& pool;
};

struct Rounded {
  PackedWeight packed;
  RoundReport report;
};

// Throws kUsage for options that the methods of the plan do not take.
void check_options(const CompressPlan& plan, const PipelineOptions& options);

// Throws as the solvers do; a Hessian that cannot be factorised ends in rounding to nearest and the
// report says so.
Rounded round_layer(const RoundJob& job);

}  // namespace fettle::compress
