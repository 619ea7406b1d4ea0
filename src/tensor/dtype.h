#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fettle {

// Storage types of tensors. Names are those of safetensors ("BF16", "F8_E4M3", ...).
enum class DType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kI64,
  kU64,
  kI32,
  kU32,
  kI16,
  kU16,
  kI8,
  kU8,
  kBool,
};

size_t dtype_bytes(DType dtype);
std::string_view dtype_name(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);
bool is_float(DType dtype);

}  // namespace fettle
