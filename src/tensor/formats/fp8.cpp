#include "tensor/formats/fp8.h"

#include <algorithm>

#include "tensor/formats/encode_common.h"
#include "tensor/formats/scale_store.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

constexpr std::string_view kName = "fp8";
constexpr int64_t kWholeTensor = -2;

float fp8_scale(float a, DType dtype) {
  const float s = round_scale(a / kE4M3Max, dtype, kName);
  return s > 0 ? s : 1.0f;
}

}  // namespace

PackedWeight encode_fp8(MatView<const float> w, const FormatOptions& o, ThreadPool* pool) {
  check_weights(kName, w, pool);
  const bool per_tensor = o.group_size == kWholeTensor;
  const int64_t group = resolve_group(kName, per_tensor ? -1 : o.group_size, -1, w.cols, true);
  PackedWeight p = allocate_packed(Format::kFp8, static_cast<int64_t>(w.rows), static_cast<int64_t>(w.cols),
                                   {.group_size = group, .scale_dtype = o.scale_dtype});
  float tensor_max = 0;
  if (per_tensor) tensor_max = matrix_abs_max(w, pool);
  const auto step = static_cast<size_t>(group), groups = static_cast<size_t>(p.groups());
  const size_t scale_stride = groups * dtype_bytes(o.scale_dtype);
  uint8_t *codes = part_bytes(p.codes), *scales = part_bytes(p.scales);
  for_rows(w.rows, pool, [&](size_t r) {
    for (size_t g = 0; g < groups; ++g) {
      const size_t begin = g * step, end = std::min(begin + step, w.cols);
      const float* x = w.row(r);
      const float s = fp8_scale(per_tensor ? tensor_max : abs_max({x + begin, end - begin}), o.scale_dtype);
      store_scale(s, o.scale_dtype, scales + r * scale_stride, g);
      for (size_t k = begin; k < end; ++k) codes[r * w.cols + k] = f32_to_e4m3(x[k] / s);
    }
  });
  return p;
}

}  // namespace fettle::formats
