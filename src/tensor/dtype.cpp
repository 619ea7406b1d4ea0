#include "tensor/dtype.h"

#include "base/error.h"

namespace fettle {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  size_t bytes;
  bool is_float;
};

// In the order of the enumeration.
constexpr DTypeRow kRows[] = {
    {DType::kF64, "F64", 8, true},        {DType::kF32, "F32", 4, true},        {DType::kF16, "F16", 2, true},
    {DType::kBF16, "BF16", 2, true},      {DType::kF8E4M3, "F8_E4M3", 1, true}, {DType::kF8E5M2, "F8_E5M2", 1, true},
    {DType::kF8E8M0, "F8_E8M0", 1, true}, {DType::kI64, "I64", 8, false},       {DType::kU64, "U64", 8, false},
    {DType::kI32, "I32", 4, false},       {DType::kU32, "U32", 4, false},       {DType::kI16, "I16", 2, false},
    {DType::kU16, "U16", 2, false},       {DType::kI8, "I8", 1, false},         {DType::kU8, "U8", 1, false},
    {DType::kBool, "BOOL", 1, false},
};

const DTypeRow& row_of(DType dtype) {
  const auto i = static_cast<size_t>(dtype);
  FETTLE_CHECK(i < std::size(kRows) && kRows[i].dtype == dtype);
  return kRows[i];
}

}  // namespace

size_t dtype_bytes(DType dtype) { return row_of(dtype).bytes; }
std::string_view dtype_name(DType dtype) { return row_of(dtype).name; }
bool is_float(DType dtype) { return row_of(dtype).is_float; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DTypeRow& row : kRows)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

}  // namespace fettle
