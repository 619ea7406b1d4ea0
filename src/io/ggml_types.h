#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "tensor/dtype.h"
#include "tensor/weight.h"

namespace fettle::io {

// One row of the ggml type table (ggml-org/ggml d99724f2, include/ggml.h): ids, names and block geometry.
struct GgmlType {
  uint32_t id;
  std::string_view name;
  uint32_t block_elements;  // along K; 1 for plain types
  uint32_t block_bytes;
  std::optional<DType> dtype;    // plain types
  std::optional<Format> format;  // what the weights become here
};

std::span<const GgmlType> ggml_types();
// nullptr when the id is not one we read.
const GgmlType* find_ggml_type(uint32_t id);
const GgmlType* find_ggml_type(std::string_view name);
// Why an id is not read: its name where it has one, and what to do. Empty only for ids that are read.
std::string_view ggml_type_refusal(uint32_t id);

}  // namespace fettle::io
