#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "tensor/weight.h"

// Scales that files may hold and arithmetic cannot: NaN and infinity (specs/00 sections 2.2 and 9).
namespace fettle {

struct BadScale {
  std::string_view part;       // "scale", "min", "super scale", "super min", "tensor scale"
  int64_t row = 0, group = 0;  // group counts super-blocks for the super parts
  float value = 0;
};

// The first non-finite scale or minimum; nothing for dense formats.
std::optional<BadScale> find_bad_scale(const PackedWeight& w);

// Some exporters (FP-Quant d2e3092) store a NaN scale for a group that is all zero. Gives every such group the scale 1,
// which keeps its value 0, and returns how many there were. Throws kNumeric naming the first group that has a
// non-finite scale and codes other than zero. For table formats with F8_E4M3 or F8_E8M0 scales; others are left alone
// (0).
int64_t repair_zero_groups(PackedWeight& w);

}  // namespace fettle
