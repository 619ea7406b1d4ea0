#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "io/checkpoint.h"
#include "io/quant_config.h"
#include "tensor/weight.h"

// Matrices inside the compression units of a DFloat11 checkpoint.
namespace fettle::io {

struct Df11Place {
  std::string unit;  // module path of the unit
  size_t index = 0;  // which of its matrices
  size_t count = 1;
};

// Where a linear module's matrix lies, or nothing when it is stored as a plain tensor: no pattern of dfloat11_config
// covers it or its unit has no encoded_exponent, which upstream loads as BF16 too.
std::optional<Df11Place> find_df11(const TensorSource& source, const QuantConfig& config, std::string_view module);

std::vector<std::string> df11_tensor_names(const TensorSource& source, const std::string& unit);

// Weights of each matrix of the unit, from split_positions. Throws kInput naming the tensor.
std::vector<int64_t> df11_sizes(const TensorSource& source, const Df11Place& place);

// The matrix decoded: BF16 [n]. Only the blocks that hold it are read. Throws kInput naming the tensor of the unit.
Tensor read_df11_words(const TensorSource& source, const Df11Place& place, ThreadPool* pool);
PackedWeight read_df11(const TensorSource& source, const Df11Place& place, int64_t rows, int64_t cols,
                       ThreadPool* pool);

}  // namespace fettle::io
