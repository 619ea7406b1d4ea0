#pragma once

#include <array>
#include <cstdint>

#include "tensor/weight.h"

// The parts of every grouped format as data: what check_packed() demands and allocate_packed() makes.
namespace fettle {

inline constexpr int64_t kSuperBlock = 256;  // elements under one super scale of the K-quants

enum class Mins : uint8_t {
  kNone,
  kOptional,  // none, or as kPlain beside symmetric codes: fractional zero points (SINQ, HQQ)
  kPlain,     // F16 or F32 beside the scales
  kSuper,     // U8 times super_mins
};

struct Layout {
  Format format;
  DType codes;  // U8 pairs when four_bit
  bool four_bit;
  int64_t fixed_group;  // 0: any
  std::array<DType, 3> scale_types;
  Mins mins;
  bool super_scales;
  bool zero_points;  // allowed
};

// Null for the dense formats.
const Layout* find_layout(Format format);

struct PackedParts {
  int64_t group_size = 0;            // 0: the format's fixed one
  DType scale_dtype = DType::kBF16;  // formats with a choice of floats; others use their own type
  bool zero_points = false;
};

// All parts of a grouped format, uninitialised. Throws kInternal for dense formats and parts that the format lacks.
PackedWeight allocate_packed(Format format, int64_t rows, int64_t cols, const PackedParts& parts);

// Bytes of a part of a weight under construction.
inline uint8_t* part_bytes(Tensor& t) {
  return t.is_empty() ? nullptr : reinterpret_cast<uint8_t*>(const_cast<std::byte*>(t.bytes().data()));
}

}  // namespace fettle
