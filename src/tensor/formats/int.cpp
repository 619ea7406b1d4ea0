#include "tensor/formats/int.h"

#include <algorithm>

#include "tensor/formats/encode_common.h"
#include "tensor/formats/pack.h"
#include "tensor/formats/scale_store.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

// Signed range of the codes.
struct Range {
  float lo, hi;
};

struct GroupFit {
  float scale;         // as stored
  float zero = 0;      // signed code of the value 0
  bool empty = false;  // every code is the zero code
};

GroupFit fit_symmetric(std::span<const float> x, int bits, const FormatOptions& o, std::string_view name) {
  const auto levels = static_cast<float>(1 << bits);
  const float divisor = o.int_scale == IntScale::kFull ? levels / 2 - 1 : (levels - 1) / 2;
  const float s = round_scale(abs_max(x) / divisor, o.scale_dtype, name);
  return s > 0 ? GroupFit{s} : GroupFit{.scale = 1.0f, .empty = true};
}

GroupFit fit_asymmetric(std::span<const float> x, int bits, Range range, const FormatOptions& o,
                        std::string_view name) {
  float mn = 0, mx = 0;
  for (const float v : x) {
    mn = v < mn ? v : mn;
    mx = v > mx ? v : mx;
  }
  // Divided before the subtraction, so that a range wider than the F32 maximum does not overflow.
  const auto steps = static_cast<float>((1 << bits) - 1);
  const float width = mx - mn;
  const float s = round_scale(std::isfinite(width) ? width / steps : mx / steps - mn / steps, o.scale_dtype, name);
  if (!(s > 0)) return {.scale = 1.0f, .zero = range.lo, .empty = true};
  return {.scale = s, .zero = static_cast<float>(round_even(std::clamp(range.lo - mn / s, range.lo, range.hi)))};
}

// codes: q + bias as bytes.
void quantise_group(std::span<const float> x, const GroupFit& fit, Range range, int bias, uint8_t* codes) {
  if (fit.empty) {
    std::fill_n(codes, x.size(), static_cast<uint8_t>(static_cast<int>(fit.zero) + bias));
    return;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const float v = x[i] / fit.scale + fit.zero;
    const float low = v < range.lo ? range.lo : v;
    const float q = low > range.hi ? range.hi : low;
    codes[i] = static_cast<uint8_t>(round_even(q) + bias);
  }
}

}  // namespace

PackedWeight encode_int(MatView<const float> w, int bits, const FormatOptions& o, ThreadPool* pool) {
  FETTLE_CHECK(bits >= 2 && bits <= 8);
  const bool four = bits <= 4;
  const FormatInfo& info = format_info(bits == 2   ? Format::kInt2
                                       : bits == 3 ? Format::kInt3
                                       : four      ? Format::kInt4
                                                   : Format::kInt8);
  check_weights(info.name, w, pool);
  const int64_t group = resolve_group(info.name, o.group_size, info.default_group, w.cols, true);
  PackedWeight p = allocate_packed(info.format, static_cast<int64_t>(w.rows), static_cast<int64_t>(w.cols),
                                   {.group_size = group, .scale_dtype = o.scale_dtype, .zero_points = !o.symmetric});
  const auto half = static_cast<float>(1 << (bits - 1));
  const Range range{o.symmetric && o.int_scale == IntScale::kFull ? 1 - half : -half, half - 1};
  const int bias = o.symmetric && !four ? 0 : static_cast<int>(half);
  const auto step = static_cast<size_t>(group), groups = static_cast<size_t>(p.groups());
  const size_t code_stride = four ? (w.cols + 1) / 2 : w.cols, scale_stride = groups * dtype_bytes(o.scale_dtype);
  uint8_t *codes = part_bytes(p.codes), *scales = part_bytes(p.scales), *zeros = part_bytes(p.zero_points);

  for_rows(w.rows, pool, [&](size_t r) {
    std::vector<uint8_t> row(w.cols);
    for (size_t g = 0; g < groups; ++g) {
      const size_t begin = g * step, n = std::min(step, w.cols - begin);
      const std::span<const float> x(w.row(r) + begin, n);
      const GroupFit fit =
          o.symmetric ? fit_symmetric(x, bits, o, info.name) : fit_asymmetric(x, bits, range, o, info.name);
      quantise_group(x, fit, range, bias, row.data() + begin);
      store_scale(fit.scale, o.scale_dtype, scales + r * scale_stride, g);
      if (zeros != nullptr) zeros[r * groups + g] = static_cast<uint8_t>(static_cast<int>(fit.zero) + bias);
    }
    if (four) {
      pack_nibbles(row, codes + r * code_stride);
    } else {
      std::copy(row.begin(), row.end(), codes + r * code_stride);
    }
  });
  return p;
}

PackedWeight encode_int8(MatView<const float> w, const FormatOptions& options, ThreadPool* pool) {
  return encode_int(w, 8, options, pool);
}

PackedWeight encode_int2(MatView<const float> w, const FormatOptions& options, ThreadPool* pool) {
  return encode_int(w, 2, options, pool);
}

PackedWeight encode_int3(MatView<const float> w, const FormatOptions& options, ThreadPool* pool) {
  return encode_int(w, 3, options, pool);
}

PackedWeight encode_int4(MatView<const float> w, const FormatOptions& options, ThreadPool* pool) {
  return encode_int(w, 4, options, pool);
}

}  // namespace fettle::formats
