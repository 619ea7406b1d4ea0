#include "tensor/formats/nvfp4.h"

#include <algorithm>

#include "tensor/formats/codecs.h"
#include "tensor/formats/encode_common.h"
#include "tensor/formats/pack.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

constexpr std::string_view kName = "nvfp4";
constexpr size_t kGroup = 16;

uint8_t group_code(float a, float gs) {
  if (a == 0) return kE4M3One;
  // Code 0 would wipe the group out; the smallest positive code still holds values down to a quarter of its step.
  return std::max<uint8_t>(1, f32_to_e4m3(gs * (a / kE2M1Max)));
}

}  // namespace

float nvfp4_global_scale(float tensor_abs_max) {
  if (tensor_abs_max == 0) return 1.0f;
  // Bounded so that the divisor and its reciprocal stay normal numbers.
  return std::min(kE4M3Max * kE2M1Max / tensor_abs_max, 0x1p126f);
}

PackedWeight encode_nvfp4(MatView<const float> w, const FormatOptions& o, ThreadPool* pool) {
  check_weights(kName, w, pool);
  if (o.group_size != 0 && o.group_size != static_cast<int64_t>(kGroup))
    fail(ErrorCode::kInput, "{}: group size {}: expected 16", kName, o.group_size);
  resolve_group(kName, 0, kGroup, w.cols, false);
  const float gs = o.fixed_global_scale != 0 ? o.fixed_global_scale : nvfp4_global_scale(matrix_abs_max(w, pool));
  if (!(gs > 0) || !std::isfinite(gs))
    fail(ErrorCode::kInput, "{}: global scale {}: expected a positive number", kName, gs);
  PackedWeight p = allocate_packed(Format::kNvfp4, static_cast<int64_t>(w.rows), static_cast<int64_t>(w.cols), {});
  p.tensor_scale = 1.0f / gs;
  uint8_t *codes = part_bytes(p.codes), *scales = part_bytes(p.scales);
  for_rows(w.rows, pool, [&](size_t r) {
    std::vector<uint8_t> row(w.cols);
    const float* x = w.row(r);
    for (size_t k = 0; k < w.cols; k += kGroup) {
      const uint8_t code = group_code(abs_max({x + k, kGroup}), gs);
      const float scale = e4m3_to_f32(code) / gs;
      for (size_t i = k; i < k + kGroup; ++i) row[i] = f32_to_e2m1(x[i] / scale);
      scales[(r * w.cols + k) / kGroup] = code;
    }
    pack_nibbles(row, codes + r * w.cols / 2);
  });
  return p;
}

}  // namespace fettle::formats
