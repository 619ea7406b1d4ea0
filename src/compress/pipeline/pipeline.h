#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "compress/compress.h"
#include "compress/pipeline/block_pass.h"
#include "compress/pipeline/calibration.h"

// The calibrated, block-by-block pipeline (specs/08b): streams of calibration tokens run through one block at a time,
// every group of linear layers that share an input is rounded against the second moments of that input, and the stream
// goes on through the quantised block.
namespace fettle::compress {

// Scaling of input channels in front of rounding, see smoothing.h.
enum class Smoothing : uint8_t { kNone, kAwq, kSmoothQuant };

inline constexpr uint64_t kSmoothingTokens = 2048;  // that AWQ's search sees, about

struct PipelineOptions {
  CompressOptions compress;  // method, format, ignore list, ...
  CalibrationOptions calibration;
  Smoothing smoothing = Smoothing::kNone;  // methods awq and smoothquant imply theirs: see use_method
  double smooth_alpha = 0.5;               // smoothquant: share of the difficulty that moves to the weights
  double damping = -1;  // relative to the mean of diag(H) (gptq) or to sigma_max(H) (qronos); < 0 = method's default
  bool act_order = true;
  bool propagate = true;            // later layers see the quantised output of earlier ones
  int64_t expert_tokens = 256;      // experts that saw fewer rows use the moments of all tokens
  double target_bpw = 0;            // > 0: layers share `bpw_formats` out so that they need this many bits per weight
  std::vector<Format> bpw_formats;  // empty: int4, int8
  bool resume = false;
  uint64_t mem_limit = 0;  // bytes; 0 = none. Activations go to disk when they would not fit
  BlockPass::Mode mode = BlockPass::Mode::kSegments;
};

// What happened to one layer.
struct RoundedLayer {
  std::string module;
  Format format = Format::kInt4;
  int64_t group_size = 0;
  int block = 0;
  double bits_per_weight = 0;
  // Of the result and of rounding to nearest, relative to tr(W H W^T). gptq: tr(dW H dW^T). qronos: J(Q) above the J
  // that the best unquantised weights reach (solve/qronos.h).
  // Behind scaled channels rounding to nearest is that of the unscaled weights.
  double objective = 0, rtn_objective = 0;
  double error = 0, baseline_error = 0;  // relative squared error of the weights, and of rounding to nearest
  double damping = 0;
  int retries = 0;
  bool fell_back = false;
  int64_t dead_columns = 0, tokens = 0;
  double seconds = 0;
  std::string note;
  Json json() const;
};

// What a run needs, see estimate.cpp. Bytes.
struct PipelineEstimate {
  uint64_t streams = 0;   // residual streams of all samples
  uint64_t boundary = 0;  // the stored input of one stage, largest
  uint64_t block = 0;     // float weights of the largest block, and its packed ones
  uint64_t solver = 0;    // moments and factors of the widest layer, and one layer's weights in F32
  uint64_t sample = 0;    // activations of one sample inside a block
  bool spilled = false;   // streams and boundary on disk
  uint64_t disk = 0;      // output and spilled activations
  uint64_t memory() const { return block + solver + sample + (spilled ? 0 : streams + boundary); }
};

struct PipelineReport {
  CompressPlan plan;
  std::vector<RoundedLayer> layers;
  std::string calibration;
  int resumed_blocks = 0;
  double seconds = 0;
  PipelineEstimate estimate;
  // Over layers, weighted by parameters.
  double mean_error() const;
  double mean_objective() const;
  double mean_rtn_objective() const;
};

// done: finished linear layers of `total`.
using PipelineProgress = std::function<void(size_t done, size_t total, const RoundedLayer& layer)>;

// Whether these options need the pipeline: a method of second order, scaling, or a search weighted by the inputs.
bool is_calibrated(const PipelineOptions& options);
// Sets the method and what it stands for: scaling of awq and smoothquant, rotation and search of mr-gptq, none of them
// for the others.
void use_method(PipelineOptions* options, const std::string& method);

// Before any work; reads only headers. Streams go to disk when everything would exceed options.mem_limit. Throws
// kResource when even then the limit is too small, naming both numbers.
PipelineEstimate estimate_pipeline(const std::string& model, const CompressPlan& plan, const PipelineOptions& options);

// Compresses `model` into the new directory `out`. Work in progress is in `out`.partial, kept once a block is finished;
// with options.resume the blocks in there are not done again and the result has the bytes of an uninterrupted run.
// Throws as compress(), load_calibration() and PartialOutput; kNumeric for non-finite activations.
PipelineReport run_pipeline(const std::string& model, const std::string& out, const PipelineOptions& options,
                            ThreadPool& pool, const CancelToken* cancel = nullptr,
                            const PipelineProgress& progress = {});

}  // namespace fettle::compress
