#pragma once

#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "io/checkpoint.h"
#include "io/quant_config.h"
#include "tensor/weight.h"

namespace fettle::io {

struct LinearOptions {
  ThreadPool* pool = nullptr;  // spreads the rows of GGUF blocks; the result does not depend on it
};

// The weight of a linear module, y = x·Wᵀ, in its packed format, whatever dialect the checkpoint speaks.
//   module: name without ".weight", e.g. "model.layers.0.mlp.down_proj", or "blk.0.ffn_down" of a GGUF file
//   rows, cols: [out_features, in_features] that the model expects
// Codes and scales borrow the mapped file where the layout allows it (compressed-tensors 4-bit and 8-bit floats, MXFP4,
// NVFP4, dense); AWQ, GPTQ, NF4 and GGUF blocks are repacked. Weights stored rotated (FP-Quant, transform_config of
// compressed-tensors) or with column scales stay as they are: PackedWeight::input tells what the activations need.
// Throws kInput naming file, tensor, expected and found for missing parts, wrong shapes or dtypes, NaN scale codes,
// non-finite or zero global scales, zero points out of range.
PackedWeight load_linear(const TensorSource& source, const QuantConfig& config, const std::string& module, int64_t rows,
                         int64_t cols, const LinearOptions& options = {});

// One expert of a stacked tensor [E, N, K]: GGUF "blk.0.ffn_gate_exps", gpt-oss "…mlp.experts.gate_up_proj" with
// _blocks and _scales, or a dense tensor of that name (with or without ".weight").
PackedWeight load_expert(const TensorSource& source, const QuantConfig& config, const std::string& name, int64_t expert,
                         int64_t experts, int64_t rows, int64_t cols, const LinearOptions& options = {});

// Names of all tensors that make up the module in this checkpoint (weight, scales, zero points, input scales, ...), for
// accounting and for finding what nobody asked for.
std::vector<std::string> linear_tensor_names(const TensorSource& source, const std::string& module);
// The same with the tensors of the DFloat11 unit that holds the module.
std::vector<std::string> linear_tensor_names(const TensorSource& source, const QuantConfig& config,
                                             const std::string& module);
// Drops their pages from memory once the weight has been repacked.
void release_linear(const TensorSource& source, const std::string& module);
// The same; a DFloat11 unit goes with the last of its matrices.
void release_linear(const TensorSource& source, const QuantConfig& config, const std::string& module);

}  // namespace fettle::io
