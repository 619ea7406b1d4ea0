#include "base/checked.h"
#include "base/error.h"
#include "io/linear_parts.h"

// FP-Quant, ModelOpt and DeepSeek-style FP8 (specs/00 section 2.5, specs/01 section 3, specs/30 section 2.5).
namespace fettle::io {

PackedWeight read_fp_quant(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  if (parts.has(".dqweight"))  // pseudo-quantised: dense, still in the rotated space
    return dense_weight(parts.need(".dqweight", {DType::kBF16, DType::kF16, DType::kF32}, {{rows, cols}}));
  const bool nv = scheme.format == "nvfp4";
  if (cols % scheme.group_size != 0)
    parts.refuse(".qweight", fmt::format("{} columns are no multiple of the group of {}", cols, scheme.group_size));
  PackedWeight w;
  w.format = nv ? Format::kNvfp4 : Format::kMxfp4;
  w.rows = rows;
  w.cols = cols;
  w.group_size = scheme.group_size;
  w.codes = parts.need(".qweight", {DType::kU8}, {{rows, cols / 2}});
  const Tensor scales =
      parts.need(".scales", {DType::kU8, nv ? DType::kF8E4M3 : DType::kF8E8M0}, {{rows, cols / scheme.group_size}});
  w.scales = reinterpret(scales, nv ? DType::kF8E4M3 : DType::kF8E8M0, scales.shape());
  check_finite(parts, ".scales", w.scales);
  w.tensor_scale = 1.0f / parts.scalar(".weight_global_scale");  // the file's factor divides
  return w;
}

PackedWeight read_modelopt(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  if (scheme.format == "fp8") return read_fp8(parts, scheme, rows, cols);
  if (cols % 16 != 0) parts.refuse(".weight", fmt::format("{} columns are no multiple of the group of 16", cols));
  PackedWeight w;
  w.format = Format::kNvfp4;
  w.rows = rows;
  w.cols = cols;
  w.group_size = 16;
  w.codes = parts.need(".weight", {DType::kU8}, {{rows, cols / 2}});
  w.scales = parts.need(".weight_scale", {DType::kF8E4M3}, {{rows, cols / 16}});
  check_finite(parts, ".weight_scale", w.scales);
  w.tensor_scale = parts.scalar(".weight_scale_2");  // multiplies
  return w;
}

PackedWeight read_fp8(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  PackedWeight w;
  w.format = Format::kFp8;
  w.rows = rows;
  w.cols = cols;
  w.codes = parts.need(".weight", {DType::kF8E4M3}, {{rows, cols}});
  const char* suffix = parts.has(".weight_scale_inv") ? ".weight_scale_inv" : ".weight_scale";
  RowScales scales = read_row_scales(parts, suffix, scheme, rows, cols);
  w.scales = std::move(scales.scales);
  w.group_size = scales.group_size;
  return w;
}

}  // namespace fettle::io
