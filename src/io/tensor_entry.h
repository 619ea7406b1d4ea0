#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace fettle::io {

// What a container says about one stored tensor, whatever the container.
struct TensorEntry {
  std::string name;
  std::string type;            // as the container spells it: "BF16", "F4", "Q4_K"
  std::optional<DType> dtype;  // set when a Tensor can hold the elements as they are
  uint32_t ggml_type = 0;      // GGUF only
  std::vector<int64_t> shape;  // row-major, slowest first (GGUF dims reversed); [] is a scalar
  uint64_t offset = 0;         // bytes from the start of the file
  uint64_t bytes = 0;

  std::string describe() const;  // "BF16 [512, 256]"
};

// "[512, 256]"
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace fettle::io
