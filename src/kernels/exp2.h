#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

// 2^x by Cody-Waite range reduction and a minimax polynomial of 2^f on [0, 1) (FlashAttention-4; coefficients from
// Sollya fpminimax, relative error, p0 = 1).
namespace fettle::kernels {

// Coefficients p1 .. p_degree; relative error in f32 on [-126, 127]: degree 3 8.8e-5, 4 3.1e-6, 5 1.5e-7.
template <int kDegree>
struct Exp2Poly;
template <>
struct Exp2Poly<3> {
  static constexpr float p[] = {0.695146143436431884765625f, 0.227564394474029541015625f,
                                0.077119089663028717041015625f};
};
template <>
struct Exp2Poly<4> {
  static constexpr float p[] = {0.693042695522308349609375f, 0.2412912547588348388671875f,
                                0.052225358784198760986328125f, 0.013434938155114650726318359375f};
};
template <>
struct Exp2Poly<5> {
  static constexpr float p[] = {0.693151414394378662109375f, 0.24016360938549041748046875f,
                                0.055802188813686370849609375f, 0.00901452265679836273193359375f,
                                0.00186810153536498546600341796875f};
};

// Defines the bits: max(x, -127); n = floor; p = Horner by FMA; the integer n is added into the exponent field of p.
// x <= -127 gives 0; -127 < x < -126 the pattern of a wrong subnormal (vector kernels flush it to 0); x <= 127 assumed.
// NaN gives NaN.
template <int kDegree>
inline float exp2_reference(float x) {
  if (std::isnan(x)) return x;
  const float clamped = x > -127.0f ? x : -127.0f;
  const float n = std::floor(clamped), f = clamped - n;
  float poly = Exp2Poly<kDegree>::p[kDegree - 1];
  for (int i = kDegree - 2; i >= 0; --i) poly = std::fma(poly, f, Exp2Poly<kDegree>::p[i]);
  poly = std::fma(poly, f, 1.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(poly) + (static_cast<uint32_t>(static_cast<int32_t>(n)) << 23));
}

// y[i] = 2^x[i] at the active ISA level, degree 3, 4 or 5 (kInternal otherwise); x < -126 gives 0, x > 127 is clamped
// to 127, NaN gives NaN. y may alias x.
void exp2(std::span<const float> x, int degree, std::span<float> y);

}  // namespace fettle::kernels
