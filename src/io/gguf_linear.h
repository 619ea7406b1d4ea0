#pragma once

#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "io/gguf.h"
#include "tensor/weight.h"

// Packed weights as GGUF tensors: only moved, never re-quantised.
namespace fettle::io {

// The tensors of one module ("blk.0.ffn_up" -> "blk.0.ffn_up.weight"). NVFP4 has a second one, "<module>.scale" F32
// [1], the factor that llama.cpp multiplies after the product. Throws kInput for formats without a GGUF type (int4,
// int8, nf4, fp8, mxfp8): those are decoded and quantised again by whoever wants that.
std::vector<GgufTensorSpec> gguf_linear_specs(const std::string& module, Format format, int64_t rows, int64_t cols);

// Their data, in the same order. Throws kInput when tensor_scale has no place (other formats than NVFP4).
std::vector<std::vector<std::byte>> gguf_linear_data(const std::string& module, const PackedWeight& w,
                                                     ThreadPool* pool = nullptr);

}  // namespace fettle::io
