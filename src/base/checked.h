#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>

#include "base/error.h"

// Overflow-safe arithmetic for sizes that come from files.
namespace fettle {

[[nodiscard]] inline bool checked_add(uint64_t a, uint64_t b, uint64_t* sum) {
  return !__builtin_add_overflow(a, b, sum);
}
[[nodiscard]] inline bool checked_mul(uint64_t a, uint64_t b, uint64_t* product) {
  return !__builtin_mul_overflow(a, b, product);
}

// Smallest multiple of alignment (a power of two) that is >= n.
[[nodiscard]] inline bool checked_align(uint64_t n, uint64_t alignment, uint64_t* aligned) {
  uint64_t sum = 0;
  if (!checked_add(n, alignment - 1, &sum)) return false;
  *aligned = sum & ~(alignment - 1);
  return true;
}

// Integer conversion that throws kInput when the value would change; `what` names the field in the message.
template <std::integral To, std::integral From>
To narrow(From value, const char* what = "value") {
  if (!std::in_range<To>(value))
    fail(ErrorCode::kInput, "{}: {} is outside [{}, {}]", what, value, std::numeric_limits<To>::min(),
         std::numeric_limits<To>::max());
  return static_cast<To>(value);
}

template <std::integral T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}
template <std::integral T>
constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}

}  // namespace fettle
