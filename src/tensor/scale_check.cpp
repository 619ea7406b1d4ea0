#include "tensor/scale_check.h"

#include <algorithm>
#include <cmath>

#include "tensor/convert.h"
#include "tensor/formats/codecs.h"

namespace fettle {
namespace {

std::optional<BadScale> find_in(std::string_view part, const Tensor& t) {
  if (t.is_empty() || !is_float(t.dtype())) return std::nullopt;
  const auto per_row = static_cast<size_t>(t.dim(1));
  std::vector<float> row(per_row);
  for (int64_t r = 0; r < t.dim(0); ++r) {
    convert_to_f32(t.dtype(), t.bytes().data() + static_cast<size_t>(r) * per_row * dtype_bytes(t.dtype()), row);
    for (size_t g = 0; g < per_row; ++g)
      if (!std::isfinite(row[g])) return BadScale{part, r, static_cast<int64_t>(g), row[g]};
  }
  return std::nullopt;
}

// Whether codes [begin, end) of a row of pairs are all +0 or -0 of the E2M1 table.
bool all_zero(const PackedWeight& w, int64_t row, int64_t begin, int64_t end) {
  const uint8_t* pairs = w.codes.data<uint8_t>() + row * ((w.cols + 1) / 2);
  for (int64_t k = begin; k < end; ++k)
    if (((pairs[k / 2] >> (4 * (k % 2))) & 7) != 0) return false;
  return true;
}

}  // namespace

std::optional<BadScale> find_bad_scale(const PackedWeight& w) {
  if (!std::isfinite(w.tensor_scale)) return BadScale{"tensor scale", 0, 0, w.tensor_scale};
  if (auto bad = find_in("super scale", w.super_scales)) return bad;
  if (auto bad = find_in("super min", w.super_mins)) return bad;
  if (auto bad = find_in("scale", w.scales)) return bad;
  return find_in("min", w.mins);
}

int64_t repair_zero_groups(PackedWeight& w) {
  if (w.format != Format::kMxfp4 && w.format != Format::kNvfp4) return 0;
  if (!find_in("scale", w.scales)) return 0;
  const uint8_t one = w.format == Format::kNvfp4 ? formats::kE4M3One : formats::kE8M0One;
  Tensor scales = w.scales.copy();
  auto* codes = scales.mutable_data<uint8_t>();
  int64_t repaired = 0;
  for (int64_t r = 0; r < w.rows; ++r)
    for (int64_t g = 0; g < w.groups(); ++g) {
      uint8_t& code = codes[r * w.groups() + g];
      const bool nan = w.format == Format::kNvfp4 ? (code & 0x7F) == 0x7F : code == formats::kE8M0Nan;
      if (!nan) continue;
      const int64_t begin = g * w.group_size;
      if (!all_zero(w, r, begin, std::min(begin + w.group_size, w.cols)))
        fail(ErrorCode::kNumeric, "{}: row {}, group {}: scale is NaN and the group is not zero",
             format_info(w.format).name, r, g);
      code = one;
      ++repaired;
    }
  w.scales = scales;
  return repaired;
}

}  // namespace fettle
