#pragma once

// How 64 bytes of a K or V tile become vectors of 16 floats (kernels/kv_page.h). Include inside a target region.
namespace fettle::kernels::detail {

template <class V>
struct PageF32 {
  static constexpr bool kDot = false;
  static constexpr size_t kUnit = 1;
  using Raw = typename V::F;
  static FETTLE_INLINE Raw load(const std::byte* p) { return V::load(reinterpret_cast<const float*>(p)); }
  template <size_t kIndex>
  static FETTLE_INLINE typename V::F get(Raw raw) {
    return raw;
  }
};

template <class V>
struct PageBf16 {
  static constexpr bool kDot = false;
  static constexpr size_t kUnit = 2;
  using Raw = typename V::I;
  static FETTLE_INLINE Raw load(const std::byte* p) { return V::load_int(p); }
  template <size_t kIndex>
  static FETTLE_INLINE typename V::F get(Raw raw) {
    if constexpr (kIndex == 0)
      return V::from_bits(V::template shl<16>(raw));
    else
      return V::from_bits(V::and_int(raw, V::set_int(0xFFFF0000u)));
  }
};

// Multiplied by BF16 dot products; V::dot_bf16 takes the raw pairs.
template <class V>
struct PageBf16Dot : PageBf16<V> {
  static constexpr bool kDot = true;
};

// Unscaled codes.
template <class V>
struct PageI8 {
  static constexpr bool kDot = false;
  static constexpr size_t kUnit = 4;
  using Raw = typename V::I;
  // Flipping the sign bit makes code + 128 unsigned.
  static FETTLE_INLINE Raw load(const std::byte* p) { return V::xor_int(V::load_int(p), V::set_int(0x80808080u)); }
  // 0x4B000000 is 2^23: with a byte in the low mantissa bits it is 2^23 + code + 128, exactly.
  template <size_t kIndex>
  static FETTLE_INLINE typename V::F get(Raw raw) {
    const auto byte = V::and_int(V::template shr<8 * kIndex>(raw), V::set_int(0xFF));
    return V::sub(V::from_bits(V::or_int(byte, V::set_int(0x4B000000u))), V::set(8388736.0f));
  }
};

// Calls body.operator()<0>() .. <kCount - 1>().
template <size_t kCount, class Body>
FETTLE_INLINE void unrolled(const Body& body) {
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>) __attribute__((always_inline)) {
    (body.template operator()<kIndex>(), ...);
  }
  (std::make_index_sequence<kCount>());
}

// Covers [0, rows) with groups of kMost rows and one smaller group: body.operator()<R>(first_row).
template <size_t kMost, class Body>
FETTLE_INLINE void for_row_groups(size_t rows, const Body& body) {
  size_t row = 0;
  for (; row + kMost <= rows; row += kMost) body.template operator()<kMost>(row);
  const size_t rest = rows - row;
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>) __attribute__((always_inline)) {
    ((rest == kIndex + 1 ? body.template operator()<kIndex + 1>(row) : void()), ...);
  }
  (std::make_index_sequence<kMost - 1>());
}

}  // namespace fettle::kernels::detail
