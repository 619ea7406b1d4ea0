#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "compress/solve/grid.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/nf4.h"
#include "tensor/formats/scale_store.h"

// Rounding of single numbers to the codes of a format, in F32 or F64.
namespace fettle::compress {

// Nearest integer, ties to even, for |x| <= 2^22.
inline int32_t round_half_even(float x) { return formats::round_even(x); }
inline int32_t round_half_even(double x) {
  return static_cast<int32_t>(std::bit_cast<int64_t>(x + 6755399441055744.0) -
                              std::bit_cast<int64_t>(6755399441055744.0));
}

// formats::f32_to_e2m1 for either precision.
template <typename T>
uint8_t to_e2m1(T x) {
  const T a = std::fabs(x);
  const int magnitude = !(a <= T(0.25)) + !(a < T(0.75)) + !(a <= T(1.25)) + !(a < T(1.75)) + !(a <= T(2.5)) +
                        !(a < T(3.5)) + !(a <= T(5));
  return static_cast<uint8_t>(magnitude | (std::signbit(x) ? 8 : 0));
}

// One format's codes: value(code) = table entry, or code - zero.
struct CodeSpace {
  enum class Kind : uint8_t { kInteger, kE2M1, kNF4, kE4M3 };
  Kind kind = Kind::kInteger;
  int bits = 4;
  float lo = 0, hi = 15;  // smallest and largest unsigned integer code
  float zero = 8;         // integer code of 0 in symmetric grids

  // x: in units of the scale. z: zero point. The signed form (z - 2^(b-1)) keeps the rounding of the encoders.
  template <typename T>
  uint8_t encode(T x, T z) const {
    switch (kind) {
      case Kind::kE2M1:
        return to_e2m1(x);
      case Kind::kNF4:
        return formats::f32_to_nf4(static_cast<float>(x));
      case Kind::kE4M3:
        return formats::f32_to_e4m3(static_cast<float>(x));
      case Kind::kInteger:
        break;
    }
    const T half = static_cast<T>(zero);
    const T v = std::clamp(x + (z - half), static_cast<T>(lo) - half, static_cast<T>(hi) - half);
    return static_cast<uint8_t>(round_half_even(v) + static_cast<int32_t>(half));
  }
  float value(uint8_t code, float z) const {
    switch (kind) {
      case Kind::kE2M1:
        return formats::e2m1_to_f32(code);
      case Kind::kNF4:
        return formats::kNF4Table[code & 15u];
      case Kind::kE4M3:
        return formats::e4m3_to_f32(code);
      case Kind::kInteger:
        break;
    }
    return static_cast<float>(code) - z;
  }
  // Code of the value 0.
  uint8_t zero_code(float z) const {
    if (kind == Kind::kNF4) return 7;
    return kind == Kind::kInteger ? static_cast<uint8_t>(z) : uint8_t{0};
  }
};

// Throws kUsage for formats without a grid.
CodeSpace code_space(Format format, const FormatOptions& options, int bits);
inline CodeSpace code_space(const Grid& g) { return code_space(g.format, g.options, g.bits); }

}  // namespace fettle::compress
