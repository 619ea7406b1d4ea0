#pragma once

#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "io/checkpoint.h"
#include "io/quant_config.h"
#include "tensor/weight.h"

namespace fettle::io {

struct LinearOptions {
  // FP-Quant stores W·H with a block Hadamard H on its inputs. load_linear() undoes H at load, which gives a dense
  // weight of this type (BF16, F16 or F32); load_rotated() keeps the packed weight.
  DType unrotated = DType::kBF16;
  ThreadPool* pool = nullptr;  // spreads the rows of GGUF blocks; the result does not depend on it
};

// The weight of a linear module, y = x·Wᵀ, in its packed format, whatever dialect the checkpoint speaks.
//   module: name without ".weight", e.g. "model.layers.0.mlp.down_proj", or "blk.0.ffn_down" of a GGUF file
//   rows, cols: [out_features, in_features] that the model expects
// Codes and scales borrow the mapped file where the layout allows it (compressed-tensors 4-bit and 8-bit floats, MXFP4,
// NVFP4, dense); AWQ, GPTQ, NF4 and GGUF blocks are repacked. Throws kInput naming file, tensor, expected and found for
// missing parts, wrong shapes or dtypes, NaN scale codes, non-finite or zero global scales, zero points out of range.
PackedWeight load_linear(const TensorSource& source, const QuantConfig& config, const std::string& module, int64_t rows,
                         int64_t cols, const LinearOptions& options = {});

// One expert of a stacked tensor [E, N, K]: GGUF "blk.0.ffn_gate_exps", gpt-oss "…mlp.experts.gate_up_proj" with
// _blocks and _scales, or a dense tensor of that name (with or without ".weight").
PackedWeight load_expert(const TensorSource& source, const QuantConfig& config, const std::string& name, int64_t expert,
                         int64_t experts, int64_t rows, int64_t cols, const LinearOptions& options = {});

// A weight in the space it is stored in: y = (x · blockdiag(rotation)) · weightᵀ.
struct RotatedLinear {
  PackedWeight weight;
  Tensor rotation;  // [h, h] float, or empty for none; row-vector convention
};
RotatedLinear load_rotated(const TensorSource& source, const QuantConfig& config, const std::string& module,
                           int64_t rows, int64_t cols, const LinearOptions& options = {});

// Undoes the rotation: every block of h columns of a row becomes H·block, so that x·Wᵀ = (x·blockdiag(H))·rotatedᵀ.
// A BF16 Hadamard matrix counts as the exact one with the same signs. [rows * cols] F32.
std::vector<float> unrotate(const PackedWeight& rotated, const Tensor& rotation);

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
