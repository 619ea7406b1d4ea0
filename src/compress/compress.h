#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "compress/solve/grid.h"
#include "io/linear_writer.h"
#include "tensor/weight.h"

namespace fettle::compress {

// Settings of some layers only. Later rules win.
struct LayerRule {
  std::vector<std::string> targets;  // exact names, globs or "re:..."
  bool dense = false;                // leave as it is
  std::optional<Format> format = {};
  std::optional<int64_t> group_size = {};
  std::optional<bool> symmetric = {};
  std::optional<std::string> method = {};
};

struct CompressOptions {
  std::string method = "rtn";
  Format format = Format::kInt4;
  FormatOptions numbers;  // symmetry, MX scale rule; group size 0 = the format's, for int4 halved until it fits
  std::vector<std::string> ignore;  // modules left dense besides embeddings and routers: exact names or "re:..."
  std::vector<LayerRule> rules;     // exceptions, in order
  // Block of the Hadamard matrix that rotates the inputs of every layer at run time, its weights beforehand (MR-GPTQ):
  // a power of two; 0 = none, -1 = 16 for nvfp4, else 32, or the largest power of two below that divides the layer.
  int64_t hadamard = 0;
  double kurtosis_gate = 0;   // sinq: layers with a larger kurtosis are rounded without balancing; 0 = off
  bool include_head = false;  // quantise lm_head too
  GridSearch search = GridSearch::kAbsMax;  // how scales are chosen; the weighted ones need the pipeline
  Overwrite overwrite = Overwrite::kNo;
};

// A linear layer that will be quantised.
struct LayerPlan {
  std::string module;  // "model.layers.0.mlp.up_proj"
  int64_t rows = 0, cols = 0;
  uint64_t bytes_before = 0, bytes_after = 0;
  io::WeightPlan stored;  // layout on disk
  FormatOptions numbers;  // group size resolved
  std::string method;
};

// Layers that inference fuses into one matrix share their name up to the last part: q, k, v and gate, up. "" = alone.
std::string fusion_group(const std::string& module);
// The number after the first "layers." of a tensor or module name; -1 outside the blocks.
int block_of(std::string_view name);
// Plans `layer` (module, shape and method set) for another format: layout, sizes and number options (the group size of
// `base` where the format leaves it open, F32 scales for nf4, as bitsandbytes stores absmax). Throws kInput when the
// format cannot hold the layer or `hadamard` (as in CompressOptions) does not divide it.
void set_format(LayerPlan& layer, Format format, const FormatOptions& base, int64_t hadamard);
// Row-major weights of the layer as they are stored: rotated when the plan says so.
void rotate_weights(const LayerPlan& layer, std::span<float> values, ThreadPool& pool);

struct CompressPlan {
  std::vector<LayerPlan> layers;               // in file order
  std::vector<std::string> dense;              // linear modules left as they are
  int64_t parameters = 0;                      // of all tensors
  int64_t layer_parameters = 0;                // of the quantised layers
  uint64_t bytes_before = 0, bytes_after = 0;  // of all tensors
  uint64_t peak_memory = 0;                    // estimate: largest layer in F32, its codes and one output tensor
  double bits_per_weight() const;              // of the quantised layers
  double model_bits_per_weight() const;        // of everything
};

struct LayerReport {
  std::string module;
  double error = 0;           // relative squared error of the weights
  double baseline_error = 0;  // the same for rounding to nearest
  double bits_per_weight = 0;
};

struct CompressReport {
  CompressPlan plan;
  std::vector<LayerReport> layers;
  double seconds = 0;
  double mean_error() const;  // weighted by parameters
};

using LayerProgress = std::function<void(size_t done, size_t total, const LayerReport& layer)>;

// What would be done; reads only headers. `model` is a directory in Hugging Face layout. Throws kInput for GGUF input,
// a checkpoint that is quantised already, tensors that disagree with the config and layers the format cannot hold;
// kUsage for an unknown method.
CompressPlan plan_compression(const std::string& model, const CompressOptions& options);

// Quantises `model` into the new directory `out`: tensor by tensor, so that memory stays near plan.peak_memory whatever
// the model's size. Tokenizer and other small files are copied as they are, config.json gains quantization_config,
// fettle-manifest.json records sizes and SHA-256. `out` appears complete or not at all. Throws what plan_compression
// throws, kNumeric for NaN or infinite weights (tensor, count, first index), kUsage when out is the input or lies
// inside it.
CompressReport compress(const std::string& model, const std::string& out, const CompressOptions& options,
                        ThreadPool& pool, const CancelToken* cancel = nullptr, const LayerProgress& progress = {});

}  // namespace fettle::compress
