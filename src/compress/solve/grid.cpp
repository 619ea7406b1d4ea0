#include "compress/solve/grid.h"

#include <cstring>

#include "compress/solve/group_fit.h"
#include "compress/solve/nvfp4_search.h"
#include "tensor/formats/encode_common.h"
#include "tensor/formats/nvfp4.h"
#include "tensor/formats/pack.h"
#include "tensor/layout.h"

namespace fettle::compress {
namespace {

constexpr int64_t kWholeTensor = -2;  // fp8: one scale for all rows

bool is_mx(Format f) { return f == Format::kMxfp4 || f == Format::kMxfp8; }

bool has_zeros(const CodeSpace& space, const FormatOptions& o) {
  return space.kind == CodeSpace::Kind::kInteger && !o.symmetric;
}

void check_importance(std::span<const float> importance, size_t cols) {
  if (importance.empty()) return;
  if (importance.size() != cols)
    fail(ErrorCode::kInput, "importance: expected {} values, one per input column, found {}", cols, importance.size());
  for (size_t k = 0; k < cols; ++k)
    if (!(importance[k] >= 0) || !std::isfinite(importance[k]))
      fail(ErrorCode::kNumeric, "importance: column {}: expected a finite number >= 0, found {}", k, importance[k]);
}

GroupFit fit_group(const Grid& g, const CodeSpace& space, GridSearch search, std::span<const float> x,
                   std::span<const float> importance) {
  if (g.format == Format::kNvfp4) return fit_nvfp4(g.tensor_scale, search, x, importance);
  if (is_mx(g.format)) return fit_mx(space, g.options, search, x, importance);
  return fit_float_scale(space, g.options, search, x, importance);
}

void store_fit(Grid* g, size_t index, const GroupFit& fit) {
  g->scales[index] = fit.scale;
  if (!g->zeros.empty()) g->zeros[index] = fit.zero;
  if (!g->stored.empty()) g->stored[index] = fit.stored;
}

float tensor_scale_of(MatView<const float> w, const FormatOptions& o, GridSearch search,
                      std::span<const float> importance, ThreadPool& pool) {
  if (o.fixed_global_scale != 0) {
    if (!(o.fixed_global_scale > 0) || !std::isfinite(o.fixed_global_scale))
      fail(ErrorCode::kInput, "nvfp4: global scale {}: expected a positive number", o.fixed_global_scale);
    return 1.0f / o.fixed_global_scale;
  }
  if (search == GridSearch::kAbsMax) return 1.0f / formats::nvfp4_global_scale(formats::matrix_abs_max(w, &pool));
  return search_nvfp4_tensor_scale(w, search == GridSearch::kMse ? std::span<const float>() : importance, pool);
}

int64_t group_length(const FormatInfo& info, const FormatOptions& o, size_t cols) {
  const bool fixed = info.format == Format::kNvfp4 || is_mx(info.format);
  const int64_t group = info.format == Format::kNvfp4 ? 16 : 32;
  if (fixed && o.group_size != 0 && o.group_size != group)
    fail(ErrorCode::kInput, "{}: group size {}: expected {}", info.name, o.group_size, group);
  if (fixed) return formats::resolve_group(info.name, 0, group, cols, false);
  const int64_t requested = o.group_size == kWholeTensor && info.format == Format::kFp8 ? -1 : o.group_size;
  return formats::resolve_group(info.name, requested, info.default_group, cols, true);
}

void check_codes(const Grid& g, std::span<const uint8_t> codes) {
  FETTLE_CHECK_EQ(codes.size(), static_cast<size_t>(g.rows * g.cols));
}

}  // namespace

CodeSpace code_space(Format format, const FormatOptions& o, int bits) {
  CodeSpace s;
  switch (format) {
    case Format::kMxfp4:
    case Format::kNvfp4:
      return {.kind = CodeSpace::Kind::kE2M1};
    case Format::kNF4:
      return {.kind = CodeSpace::Kind::kNF4};
    case Format::kMxfp8:
    case Format::kFp8:
      return {.kind = CodeSpace::Kind::kE4M3, .bits = 8};
    case Format::kInt2:
    case Format::kInt3:
    case Format::kInt4:
    case Format::kInt8:
      break;
    default:
      fail(ErrorCode::kUsage,
           "{}: no calibrated rounding for this format: choose int2, int3, int4, int8, nf4, fp8, mxfp4, mxfp8 "
           "or nvfp4",
           format_info(format).name);
  }
  const int width = format == Format::kInt2 ? 2 : format == Format::kInt3 ? 3 : format == Format::kInt4 ? 4 : 8;
  s.bits = bits == 0 ? width : bits;
  if (s.bits < 2 || s.bits > width)
    fail(ErrorCode::kUsage, "{}: {} bits: expected 2 to {}", format_info(format).name, s.bits, width);
  const auto half = static_cast<float>(1 << (s.bits - 1));
  if (o.symmetric) {
    s.zero = static_cast<float>(1 << (width - 1));  // the format's offset whatever the width in use
    s.lo = s.zero - half + (o.int_scale == IntScale::kFull ? 1.0f : 0.0f);
    s.hi = s.zero + half - 1;
  } else {
    s.zero = half;
    s.lo = 0;
    s.hi = 2 * half - 1;
  }
  return s;
}

Grid make_grid(MatView<const float> w, Format format, const FormatOptions& options, GridSearch search,
               std::span<const float> importance, ThreadPool& pool, int bits) {
  const CodeSpace space = code_space(format, options, bits);
  const FormatInfo& info = format_info(format);
  FETTLE_CHECK(search != GridSearch::kScaleEstimation);
  formats::check_weights(info.name, w, &pool);
  check_importance(importance, w.cols);
  // Weights are relative; all zero would make every scale equally good.
  double total = 0;
  for (const float v : importance) total += v;
  std::vector<float> weights(total > 0 ? importance.size() : 0);
  for (size_t k = 0; k < weights.size(); ++k)
    weights[k] = static_cast<float>(importance[k] * static_cast<double>(weights.size()) / total);

  Grid g;
  g.format = format;
  g.options = options;
  g.rows = static_cast<int64_t>(w.rows);
  g.cols = static_cast<int64_t>(w.cols);
  g.bits = space.bits;
  g.group_size = group_length(info, options, w.cols);
  const auto count = static_cast<size_t>(g.rows * g.groups());
  g.scales.resize(count);
  if (has_zeros(space, options)) g.zeros.resize(count);
  if (format == Format::kNvfp4 || is_mx(format)) g.stored.resize(count);
  if (format == Format::kNvfp4) g.tensor_scale = tensor_scale_of(w, options, search, weights, pool);
  const bool whole = options.group_size == kWholeTensor && format == Format::kFp8;
  const float top = whole ? formats::matrix_abs_max(w, &pool) : 0;
  if (!whole) g.options.group_size = g.group_size;

  const auto step = static_cast<size_t>(g.group_size), groups = static_cast<size_t>(g.groups());
  pool.parallel_for(w.rows, [&](size_t r) {
    for (size_t i = 0; i < groups; ++i) {
      const size_t begin = i * step, n = std::min(step, w.cols - begin);
      const auto part = weights.empty() ? std::span<const float>() : std::span<const float>(weights).subspan(begin, n);
      const GroupFit fit = whole ? fit_float_scale(space, options, GridSearch::kAbsMax, {&top, 1}, {})
                                 : fit_group(g, space, search, {w.row(r) + begin, n}, part);
      store_fit(&g, r * groups + i, fit);
    }
  });
  return g;
}

void refit_group(Grid* g, int64_t row, int64_t group, std::span<const float> x) {
  store_fit(g, static_cast<size_t>(row * g->groups() + group),
            fit_group(*g, code_space(*g), GridSearch::kAbsMax, x, {}));
}

void round_to_grid(const Grid& g, MatView<const float> w, std::span<uint8_t> codes, ThreadPool& pool) {
  check_codes(g, codes);
  FETTLE_CHECK_EQ(w.rows, static_cast<size_t>(g.rows));
  FETTLE_CHECK_EQ(w.cols, static_cast<size_t>(g.cols));
  const CodeSpace space = code_space(g);
  pool.parallel_for(w.rows, [&](size_t r) {
    for (size_t k = 0; k < w.cols; ++k) {
      const size_t i = g.at(static_cast<int64_t>(r), static_cast<int64_t>(k));
      const float s = g.scales[i], z = g.zeros.empty() ? space.zero : static_cast<float>(g.zeros[i]);
      codes[r * w.cols + k] = space.encode(s != 0 ? w.row(r)[k] / s : 0.0f, z);
    }
  });
}

float grid_value(const Grid& g, int64_t row, int64_t col, uint8_t code) {
  const CodeSpace space = code_space(g);
  const size_t i = g.at(row, col);
  const float v = space.value(code, g.zeros.empty() ? space.zero : static_cast<float>(g.zeros[i]));
  // NVFP4 multiplies by the tensor scale last (tensor/weight.h), so the rounding is that of decode.
  if (g.format == Format::kNvfp4 && !g.stored.empty()) return g.tensor_scale * (v * formats::e4m3_to_f32(g.stored[i]));
  return v * g.scales[i];
}

void grid_row(const Grid& g, int64_t row, std::span<const uint8_t> codes, std::span<float> out) {
  for (size_t k = 0; k < out.size(); ++k) out[k] = grid_value(g, row, static_cast<int64_t>(k), codes[k]);
}

PackedWeight pack_grid(const Grid& g, std::span<const uint8_t> codes) {
  check_codes(g, codes);
  const FormatInfo& info = format_info(g.format);
  if (!g.group_of.empty())
    fail(ErrorCode::kUsage, "{}: groups in processing order have no packed form: use groups of the column order",
         info.name);
  const CodeSpace space = code_space(g);
  PackedWeight p = allocate_packed(
      g.format, g.rows, g.cols,
      {.group_size = g.group_size, .scale_dtype = g.options.scale_dtype, .zero_points = !g.zeros.empty()});
  p.tensor_scale = g.tensor_scale;
  uint8_t* scales = part_bytes(p.scales);
  if (g.format == Format::kNvfp4 || is_mx(g.format)) {
    if (g.stored.size() != g.scales.size())
      fail(ErrorCode::kUsage, "{}: scales of this grid are no scale codes of the format", info.name);
    std::memcpy(scales, g.stored.data(), g.stored.size());
  } else {
    for (size_t i = 0; i < g.scales.size(); ++i) {
      if (formats::round_scale(g.scales[i], g.options.scale_dtype, info.name) != g.scales[i])
        fail(ErrorCode::kUsage, "{}: scale {} is no {} number", info.name, g.scales[i],
             dtype_name(g.options.scale_dtype));
      formats::store_scale(g.scales[i], g.options.scale_dtype, scales, i);
    }
  }
  if (!g.zeros.empty()) std::memcpy(part_bytes(p.zero_points), g.zeros.data(), g.zeros.size());
  uint8_t* to = part_bytes(p.codes);
  const auto rows = static_cast<size_t>(g.rows), cols = static_cast<size_t>(g.cols);
  if (info.code_bits == 4) {
    for (size_t r = 0; r < rows; ++r) formats::pack_nibbles(codes.subspan(r * cols, cols), to + r * ((cols + 1) / 2));
  } else {
    const bool offset = p.codes.dtype() == DType::kI8;
    const int zero = offset ? static_cast<int>(space.zero) : 0;  // signed codes
    for (size_t i = 0; i < codes.size(); ++i) to[i] = static_cast<uint8_t>(codes[i] - zero);
  }
  return p;
}

}  // namespace fettle::compress
