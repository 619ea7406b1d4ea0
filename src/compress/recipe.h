#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "compress/pipeline/pipeline.h"

// A compression job as a file.
namespace fettle::compress {

// Reads a recipe, YAML (JSON is YAML too), onto `base`; keys that are absent leave it as it is:
//   method, format, group_size, symmetric, scale_dtype (bf16 | f16 | f32), mx_scale (even | floor | ceil),
//   search (absmax | mse | imatrix | hessian | scale-estimation), hadamard_group_size, smooth (none | awq |
//   smoothquant), smooth_alpha, damping, act_order, propagate, sinq_kurtosis_gate, expert_tokens, ignore (name or
//   list), lm_head, target_bpw, bpw_formats (list), calibration: {source, samples, seqlen, seed}, overrides: list of
//   {targets (name or list), format, group_size, symmetric, method, dense}
// Throws kInput naming file, key, expected and found: for unknown keys (with the known ones), values of the wrong type
// or range, ill-formed YAML, files above 1 MiB, nesting above 32; kIo when it cannot be read.
PipelineOptions read_recipe(const std::string& path, const PipelineOptions& base);

// One job of a grid.
struct SweepPoint {
  std::string name;  // of the values that vary, fit for a folder: "qronos-int4-g64-seed1"
  PipelineOptions options;
};
// A recipe with one more key, sweep: {KEY: [values], ...}; KEY is any recipe key with a plain value, or one of
// calibration's. Every combination becomes a job, the last key varying fastest. Throws as read_recipe, and kInput for a
// file without `sweep`, an empty list or more than 1000 jobs.
std::vector<SweepPoint> read_sweep(const std::string& path, const PipelineOptions& base);

// The same options as a recipe: read_recipe of its text gives them back. Left out: resume, mem_limit.
Json recipe_json(const PipelineOptions& options);

// The words of recipes and flags. Throw kUsage listing the known ones.
GridSearch parse_search(std::string_view name);
Smoothing parse_smoothing(std::string_view name);
MxScale parse_mx_scale(std::string_view name);
DType parse_scale_dtype(std::string_view name);

}  // namespace fettle::compress
