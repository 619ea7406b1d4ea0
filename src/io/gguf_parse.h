#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/gguf.h"

namespace fettle::io {

struct GgufContents {
  uint32_t version = 0;
  uint64_t alignment = 32;
  std::vector<GgufValue> values;                   // views into the file
  std::vector<TensorEntry> entries;                // offsets from the start of the file
  std::vector<uint32_t> value_order, entry_order;  // indices sorted by key and name
};

// Reads and validates everything but the tensor data (specs/00 section 3.2).
GgufContents parse_gguf(std::span<const std::byte> file, const std::string& path);

}  // namespace fettle::io
