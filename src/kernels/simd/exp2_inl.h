#pragma once

// Include inside a target region, after kernels/exp2.h and the vector type.
namespace fettle::kernels::simd {

// 2^x for x <= 127 (kernels/exp2.h); x < -126 gives exactly 0; NaN lanes give NaN.
template <class V, int kDegree>
FETTLE_INLINE typename V::F exp2_poly(typename V::F x) {
  using F = typename V::F;
  const F lowest = V::set(-127.0f);
  const F clamped = V::max(lowest, x);  // keeps NaN
  const F n = V::floor(clamped), f = V::sub(clamped, n);
  F poly = V::set(Exp2Poly<kDegree>::p[kDegree - 1]);
  FETTLE_UNROLL
  for (int i = kDegree - 2; i >= 0; --i) poly = V::fma(poly, f, V::set(Exp2Poly<kDegree>::p[i]));
  poly = V::fma(poly, f, V::set(1.0f));
  // n + 1.5 * 2^23 holds n in its low mantissa bits; the shift moves it into the exponent field and the rest out.
  const F shifted = V::add(n, V::set(12582912.0f));
  const F result = V::from_bits(V::add_int(V::bits(poly), V::template shl<23>(V::bits(shifted))));
  return V::zero_where(V::less(clamped, V::set(-126.0f)), result);
}

// e^x at degree 5 (2e-7); below -87.3 gives 0, above 88 is clamped to 2^127, NaN stays NaN.
template <class V>
FETTLE_INLINE typename V::F exp_poly(typename V::F x) {
  using F = typename V::F;
  const F bounded = V::min(V::set(200.0f), V::max(V::set(-200.0f), x));  // keeps NaN
  // x * log2(e) = hi + lo, so that large |x| keeps its relative precision: e^x = 2^hi (1 + ln2 lo).
  const F log2e = V::set(1.44269502162933349609375f);
  const F hi = V::mul(bounded, log2e);
  const F rounding = V::fma(bounded, log2e, V::sub(V::zero(), hi));
  const F lo = V::fma(bounded, V::set(1.92596299e-8f), rounding);
  const F e = exp2_poly<V, 5>(V::min(V::set(127.0f), hi));
  return V::fma(V::mul(e, lo), V::set(0.693147182f), e);
}

// tanh(x): an odd polynomial near zero (coefficients of Cephes tanhf, Moshier), else 1 - 2 / (e^(2|x|) + 1); 3e-7.
template <class V>
FETTLE_INLINE typename V::F tanh_poly(typename V::F x) {
  using F = typename V::F;
  const F z = V::mul(x, x), magnitude = V::abs(x), one = V::set(1.0f);
  F p = V::set(-5.70498872745e-3f);
  p = V::fma(p, z, V::set(2.06390887954e-2f));
  p = V::fma(p, z, V::set(-5.37397155531e-2f));
  p = V::fma(p, z, V::set(1.33314422036e-1f));
  p = V::fma(p, z, V::set(-3.33332819422e-1f));
  const F near_zero = V::fma(V::mul(p, z), x, x);
  const F e = exp_poly<V>(V::add(magnitude, magnitude));
  const F far = V::sub(one, V::div(V::set(2.0f), V::add(e, one)));
  const F negative_far = V::sub(V::zero(), far);
  const F tail = V::select(V::less(x, V::zero()), negative_far, far);
  return V::select(V::less(magnitude, V::set(0.625f)), near_zero, tail);
}

}  // namespace fettle::kernels::simd
