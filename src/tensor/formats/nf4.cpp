#include "tensor/formats/nf4.h"

#include <algorithm>

#include "tensor/formats/encode_common.h"
#include "tensor/formats/pack.h"
#include "tensor/formats/scale_store.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

constexpr std::string_view kName = "nf4";
constexpr uint8_t kZeroCode = 7;

// Largest F32 that still belongs to the lower neighbour.
constexpr std::array<float, 15> make_bounds() {
  std::array<float, 15> b{};
  for (size_t i = 0; i < 15; ++i) {
    const double mid = 0.5 * (static_cast<double>(kNF4Table[i]) + static_cast<double>(kNF4Table[i + 1]));
    auto f = static_cast<float>(mid);
    if (static_cast<double>(f) > mid) f = std::bit_cast<float>(std::bit_cast<uint32_t>(f) + (f > 0 ? -1u : 1u));
    b[i] = f;
  }
  return b;
}
constexpr std::array<float, 15> kBounds = make_bounds();

}  // namespace

uint8_t f32_to_nf4(float x) {
  int code = 0;
  for (const float bound : kBounds) code += x > bound;
  return static_cast<uint8_t>(code);
}

PackedWeight encode_nf4(MatView<const float> w, const FormatOptions& o, ThreadPool* pool) {
  check_weights(kName, w, pool);
  const int64_t group = resolve_group(kName, o.group_size, format_info(Format::kNF4).default_group, w.cols, true);
  PackedWeight p = allocate_packed(Format::kNF4, static_cast<int64_t>(w.rows), static_cast<int64_t>(w.cols),
                                   {.group_size = group, .scale_dtype = o.scale_dtype});
  const auto step = static_cast<size_t>(group), groups = static_cast<size_t>(p.groups());
  const size_t code_stride = (w.cols + 1) / 2, scale_stride = groups * dtype_bytes(o.scale_dtype);
  uint8_t *codes = part_bytes(p.codes), *scales = part_bytes(p.scales);
  for_rows(w.rows, pool, [&](size_t r) {
    std::vector<uint8_t> row(w.cols);
    const float* x = w.row(r);
    for (size_t g = 0; g < groups; ++g) {
      const size_t begin = g * step, end = std::min(begin + step, w.cols);
      const float s = round_scale(abs_max({x + begin, end - begin}), o.scale_dtype, kName);
      store_scale(s, o.scale_dtype, scales + r * scale_stride, g);
      for (size_t k = begin; k < end; ++k) row[k] = s > 0 ? f32_to_nf4(x[k] / s) : kZeroCode;
    }
    pack_nibbles(row, codes + r * code_stride);
  });
  return p;
}

}  // namespace fettle::formats
