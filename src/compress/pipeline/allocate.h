#pragma once

#include <vector>

#include "compress/pipeline/pipeline.h"

namespace fettle::compress {

// Mixed precision (specs/08b 2.7): one format of options.bpw_formats for every layer of `plan`, so that the quantised
// layers need at most options.target_bpw bits per weight, scales included. The error of a choice is measured: the
// relative squared change of its block's output on about 1024 calibration tokens when only this layer (q, k and v
// together, gate and up together, all experts of a block together) is rounded to nearest; sums of these are minimised
// (allocate_bits). Returns one rule per layer. Throws kUsage when no choice is small enough, kInput when a format
// cannot hold a layer.
std::vector<LayerRule> allocate_formats(const std::string& model, const CompressPlan& plan,
                                        const PipelineOptions& options,
                                        const std::vector<std::vector<int32_t>>& samples, ThreadPool& pool,
                                        const CancelToken* cancel);

}  // namespace fettle::compress
