#include "kernels/kv_page.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace fettle::kernels {
namespace {

// Round to nearest even; NaN keeps a set mantissa bit.
uint16_t to_bf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float from_bf16(uint16_t x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }

// Where one token's values lie: K value d at k + (d / unit) * 16 * unit + d % unit elements from the slot's first one,
// V value d at v + d * unit.
template <typename T>
struct RowAddress {
  T* k;
  T* v;
  size_t unit;

  template <typename Byte>
  RowAddress(const PageLayout& layout, Byte* head, size_t slot) : unit(layout.unit()) {
    const size_t tile = slot / kTileSlots, in_tile = slot % kTileSlots;
    k = reinterpret_cast<T*>(head + tile * layout.k_tile_bytes()) + in_tile * unit;
    v = reinterpret_cast<T*>(head + layout.v_offset() + tile * layout.v_tile_bytes()) +
        in_tile / unit * layout.value_dim * unit + in_tile % unit;
  }
  T& key(size_t d) const { return k[d / unit * kTileSlots * unit + d % unit]; }
  T& value(size_t d) const { return v[d * unit]; }
};

template <typename T, typename Convert>
void store_row(const PageLayout& layout, std::byte* head, size_t slot, size_t k_dims, const Convert& k_at,
               const Convert& v_at) {
  const RowAddress<T> row(layout, head, slot);
  for (size_t d = 0; d < k_dims; ++d) row.key(d) = k_at(d);
  for (size_t d = k_dims; d % row.unit != 0; ++d) row.key(d) = T{};  // pads the last unit
  for (size_t d = 0; d < layout.value_dim; ++d) row.value(d) = v_at(d);
}

float* scales(const PageLayout& layout, std::byte* head) {
  return reinterpret_cast<float*>(head + layout.scale_offset());
}

float quantise_i8(const float* x, size_t n, int8_t* codes) {
  float top = 0, probe = 0;
  for (size_t d = 0; d < n; ++d) {
    top = std::max(top, std::fabs(x[d]));
    probe += x[d] * 0.0f;
  }
  if (std::isnan(probe)) {  // a NaN or infinity in the row: the scale carries it
    std::fill(codes, codes + n, int8_t{1});
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = top / 127.0f;
  for (size_t d = 0; d < n; ++d) {
    const float code = scale > 0 ? std::nearbyint(x[d] / scale) : 0.0f;
    codes[d] = static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f));
  }
  return scale;
}

}  // namespace

void check_page_layout(const PageLayout& layout) {
  if (layout.slots < 16 || layout.slots > 256 || !std::has_single_bit(layout.slots))
    fail(ErrorCode::kUsage, "KV page size {}: expected a power of two from 16 to 256", layout.slots);
  if (layout.dtype != DType::kF32 && layout.dtype != DType::kBF16 && layout.dtype != DType::kI8)
    fail(ErrorCode::kUsage, "KV page dtype {}: expected F32, BF16 or I8", dtype_name(layout.dtype));
  for (size_t dim : {layout.head_dim, layout.value_dim})
    if (dim < 1 || dim > 4096) fail(ErrorCode::kUsage, "KV head dimension {}: expected 1 to 4096", dim);
}

void store_kv_row_i8(const PageLayout& layout, std::byte* head, size_t slot, const int8_t* k, float k_scale,
                     const int8_t* v, float v_scale) {
  FETTLE_DCHECK(layout.dtype == DType::kI8 && slot < layout.slots);
  const auto at = [](const int8_t* x) { return [x](size_t d) { return x[d]; }; };
  store_row<int8_t>(layout, head, slot, layout.head_dim, at(k), at(v));
  scales(layout, head)[slot] = k_scale;
  scales(layout, head)[layout.slots + slot] = v_scale;
}

void store_kv_row(const PageLayout& layout, std::byte* head, size_t slot, const float* k, const float* v) {
  FETTLE_DCHECK(slot < layout.slots);
  if (layout.dtype == DType::kF32) {
    const auto at = [](const float* x) { return [x](size_t d) { return x[d]; }; };
    store_row<float>(layout, head, slot, layout.head_dim, at(k), at(v));
  } else if (layout.dtype == DType::kBF16) {
    const auto at = [](const float* x) { return [x](size_t d) { return to_bf16(x[d]); }; };
    store_row<uint16_t>(layout, head, slot, layout.head_dim, at(k), at(v));
  } else {
    int8_t k_codes[4096], v_codes[4096];  // check_page_layout bounds both
    const float k_scale = quantise_i8(k, layout.head_dim, k_codes), v_scale = quantise_i8(v, layout.value_dim, v_codes);
    store_kv_row_i8(layout, head, slot, k_codes, k_scale, v_codes, v_scale);
  }
}

void load_kv_row(const PageLayout& layout, const std::byte* head, size_t slot, float* k, float* v) {
  FETTLE_DCHECK(slot < layout.slots);
  const auto read = [&](const auto& row, const auto& convert, float k_scale, float v_scale) {
    for (size_t d = 0; d < layout.head_dim; ++d) k[d] = convert(row.key(d)) * k_scale;
    for (size_t d = 0; d < layout.value_dim; ++d) v[d] = convert(row.value(d)) * v_scale;
  };
  if (layout.dtype == DType::kF32) {
    read(
        RowAddress<const float>(layout, head, slot), [](float x) { return x; }, 1.0f, 1.0f);
  } else if (layout.dtype == DType::kBF16) {
    read(RowAddress<const uint16_t>(layout, head, slot), from_bf16, 1.0f, 1.0f);
  } else {
    const float* scale = reinterpret_cast<const float*>(head + layout.scale_offset());
    read(
        RowAddress<const int8_t>(layout, head, slot), [](int8_t x) { return static_cast<float>(x); }, scale[slot],
        scale[layout.slots + slot]);
  }
}

}  // namespace fettle::kernels
