#include "io/linear_loader.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/df11_layout.h"
#include "io/linear_parts.h"
#include "tensor/formats/gguf_blocks.h"
#include "tensor/input_transform.h"

namespace fettle::io {
namespace {

// Every suffix a layout may use (specs/00 sections 2.4 and 2.5).
constexpr std::string_view kSuffixes[] = {
    ".weight",
    ".weight_packed",
    ".weight_scale",
    ".weight_shape",
    ".weight_zero_point",
    ".weight_g_idx",
    ".weight_global_scale",
    ".weight_col_scale",
    ".weight_scale_2",
    ".weight_scale_inv",
    ".input_scale",
    ".input_global_scale",
    ".input_zero_point",
    ".output_scale",
    ".qweight",
    ".scales",
    ".qzeros",
    ".g_idx",
    ".dqweight",
    ".act_global_scale",
    ".forward_hadamard_matrix",
    ".backward_hadamard_matrix",
    ".weight.absmax",
    ".weight.quant_map",
    ".weight.nested_absmax",
    ".weight.nested_quant_map",
    ".weight.quant_state.bitsandbytes__nf4",
    ".SCB",
    ".weight_format",
    ".fx3_codes",
    ".fx3_exception_cols",
    ".fx3_exception_highs",
    ".fx3_exception_starts",
    ".fx3_shape",
    ".fx3_tables",
    ".scale",
    ".W_q",
    ".meta.scale",
    ".meta.scale.x",
    ".meta.scale.s",
    ".meta.scale.m",
    ".meta.zero",
    ".meta.zero.x",
    ".meta.zero.s",
    ".meta.zero.m",
    ".meta.scale2",
    "_blocks",
    "_scales",
};

// Rows [row, row + rows) of a GGUF tensor whose leading dimensions are flattened, or of a plain tensor.
PackedWeight gguf_rows(const Parts& parts, int64_t first_row, int64_t total_rows, int64_t rows, int64_t cols,
                       float scale, ThreadPool* pool) {
  const std::string name = parts.name(".weight");
  const TensorEntry& entry = parts.source().at(name);
  const GgmlType* type = find_ggml_type(entry.ggml_type);
  FETTLE_CHECK(type != nullptr);
  int64_t found_rows = 1;
  for (size_t i = 0; i + 1 < entry.shape.size(); ++i) found_rows *= entry.shape[i];
  if (found_rows != total_rows || entry.shape.back() != cols)
    parts.refuse(".weight",
                 fmt::format("expected {} rows of {} elements, found {}", total_rows, cols, entry.describe()));
  if (!type->format) parts.refuse(".weight", fmt::format("type {} cannot hold a weight matrix", type->name));
  Tensor t = parts.source().get(name);
  t = t.reshaped({total_rows, t.shape().back()}).slice_rows(first_row, first_row + rows);
  if (entry.dtype) {
    if (reinterpret_cast<uintptr_t>(t.bytes().data()) % dtype_bytes(t.dtype()) != 0) t = t.copy();
    return dense_weight(t);
  }
  PackedWeight w = [&] {
    try {
      return formats::from_gguf_blocks(entry.ggml_type, rows, cols, t.bytes(), pool);
    } catch (const Error& e) {
      fail(e.code(), "{}: tensor \"{}\": {}", parts.source().file_of(name), printable(name), e.what());
    }
  }();
  w.tensor_scale *= scale;
  check_finite(parts, ".weight", w.scales);
  if (w.super_scales.numel()) check_finite(parts, ".weight", w.super_scales);
  if (w.mins.numel()) check_finite(parts, ".weight", w.mins);
  if (w.super_mins.numel()) check_finite(parts, ".weight", w.super_mins);
  return w;
}

// The F32 factor that llama.cpp stores beside NVFP4 tensors: [1] or one per expert.
float gguf_scale(const Parts& parts, int64_t expert, int64_t experts) {
  if (!parts.has(".scale")) return 1.0f;
  const Tensor t = parts.need(".scale", {DType::kF32}, {{1}, {experts}});
  const float scale = t.data<float>()[t.numel() == 1 ? 0 : expert];
  if (!std::isfinite(scale) || scale == 0.0f)
    parts.refuse(".scale", fmt::format("expected a finite, non-zero scale, found {}", scale));
  return scale;
}

// What the model asks for; far above any real layer, low enough that bit counts cannot overflow.
void check_size(const std::string& module, int64_t rows, int64_t cols) {
  constexpr int64_t kMax = int64_t{1} << 30;
  if (rows < 1 || cols < 1 || rows > kMax || cols > kMax)
    fail(ErrorCode::kInput, "module \"{}\": expected a matrix of 1 to {} rows and columns, found {} x {}",
         printable(module), kMax, rows, cols);
}

// Whether the module's quantised tensors are there; the other methods list exceptions in too many spellings to rely on.
bool has_quantised(const Parts& parts, const QuantConfig& config) {
  switch (config.method()) {
    case QuantMethod::kFpQuant:
      return parts.has(".qweight") || parts.has(".dqweight");
    case QuantMethod::kAwq:
    case QuantMethod::kGptq:
      return parts.has(".qweight");
    case QuantMethod::kModelOpt:
    case QuantMethod::kFp8:
      return parts.has(".weight_scale") || parts.has(".weight_scale_inv");
    case QuantMethod::kBitsAndBytes:
      return parts.has(".SCB") || parts.has(".weight.absmax");
    case QuantMethod::kSinq:
      return parts.has(".W_q");
    case QuantMethod::kCompressedTensors:
      return config.scheme_for(parts.module()) != nullptr;
    case QuantMethod::kFx3:
      return parts.has(".fx3_codes");
    case QuantMethod::kDf11:
      return find_df11(parts.source(), config, parts.module()).has_value();
    case QuantMethod::kMxfp4:
    case QuantMethod::kNone:
      return false;
  }
  return false;
}

PackedWeight read_stored(const Parts& parts, const QuantConfig& config, int64_t rows, int64_t cols, ThreadPool* pool) {
  if (parts.source().is_gguf()) return gguf_rows(parts, 0, rows, rows, cols, gguf_scale(parts, 0, 1), pool);
  if (!has_quantised(parts, config)) {
    if (!parts.has(".weight") && parts.has(".weight_packed"))
      parts.refuse(".weight_packed", "present, but quantization_config does not cover this module");
    return read_dense(parts, rows, cols);
  }
  switch (config.method()) {
    case QuantMethod::kCompressedTensors:
      return read_compressed_tensors(parts, *config.scheme_for(parts.module()), rows, cols);
    case QuantMethod::kFpQuant:
      return read_fp_quant(parts, config.scheme(), rows, cols);
    case QuantMethod::kModelOpt:
      return read_modelopt(parts, config.scheme(), rows, cols);
    case QuantMethod::kAwq:
      return read_awq(parts, config.scheme(), rows, cols);
    case QuantMethod::kGptq:
      return read_gptq(parts, config.scheme(), config.gptq_v2(), rows, cols);
    case QuantMethod::kFp8:
      return read_fp8(parts, config.scheme(), rows, cols);
    case QuantMethod::kBitsAndBytes:
      return read_bitsandbytes(parts, config.scheme(), rows, cols);
    case QuantMethod::kFx3:
      return read_fx3(parts, rows, cols);
    case QuantMethod::kDf11:
      return read_df11(parts.source(), *find_df11(parts.source(), config, parts.module()), rows, cols, pool);
    case QuantMethod::kSinq:
      return read_sinq(parts, config.sinq_leaf(parts.module()), rows, cols);
    case QuantMethod::kMxfp4:
    case QuantMethod::kNone:
      break;
  }
  return read_dense(parts, rows, cols);
}

// FP-Quant stores the rotation of its activations as a matrix.
InputTransform fp_quant_rotation(const Parts& parts, int64_t h, int64_t cols) {
  if (cols % h != 0)
    parts.refuse(".forward_hadamard_matrix", fmt::format("{} columns are no multiple of the rotation of {}", cols, h));
  const Tensor t = parts.need(".forward_hadamard_matrix", {DType::kBF16, DType::kF16, DType::kF32}, {{h, h}});
  check_finite(parts, ".forward_hadamard_matrix", t);
  return block_rotation(t);
}

// What the module's activations go through before the product.
InputTransform input_transform(const Parts& parts, const QuantConfig& config, int64_t cols) {
  if (!has_quantised(parts, config)) return {};
  InputTransform out;
  if (config.method() == QuantMethod::kFpQuant && config.hadamard_group_size() > 1)
    return fp_quant_rotation(parts, config.hadamard_group_size(), cols);
  if (const int64_t k = config.input_hadamard(parts.module()); k > 1) {
    if (cols % k != 0)
      parts.refuse(".weight_packed", fmt::format("{} columns are no multiple of the {} rotated together", cols, k));
    out.hadamard = k;
  }
  if (parts.has(".weight_col_scale")) {
    const Tensor t = parts.need(".weight_col_scale", {DType::kF32, DType::kBF16, DType::kF16}, {{cols}});
    check_finite(parts, ".weight_col_scale", t);
    out.col_scales = Tensor::from<float>(t.to_f32(), {cols});
  }
  return out;
}

// gpt-oss expert: blocks [E,N,K/32,16] are rows of consecutive low-first nibbles already.
PackedWeight gpt_oss_expert(const Parts& parts, int64_t expert, int64_t experts, int64_t rows, int64_t cols) {
  if (cols % 32 != 0) parts.refuse("_blocks", fmt::format("{} columns are no multiple of 32", cols));
  const Tensor blocks = parts.need("_blocks", {DType::kU8}, {{experts, rows, cols / 32, 16}});
  const Tensor scales = parts.need("_scales", {DType::kU8, DType::kF8E8M0}, {{experts, rows, cols / 32}});
  PackedWeight w;
  w.format = Format::kMxfp4;
  w.rows = rows;
  w.cols = cols;
  w.group_size = 32;
  w.codes = blocks.slice_rows(expert, expert + 1).reshaped({rows, cols / 2});
  w.scales = reinterpret(scales.slice_rows(expert, expert + 1), DType::kF8E8M0, {rows, cols / 32});
  check_finite(parts, "_scales", w.scales);
  return w;
}

}  // namespace

PackedWeight load_linear(const TensorSource& source, const QuantConfig& config, const std::string& module, int64_t rows,
                         int64_t cols, const LinearOptions& options) {
  check_size(module, rows, cols);
  const Parts parts(source, module);
  PackedWeight weight = read_stored(parts, config, rows, cols, options.pool);
  if (config.method() != QuantMethod::kSinq) weight.input = input_transform(parts, config, cols);
  check_packed(weight);
  return weight;
}

PackedWeight load_expert(const TensorSource& source, const QuantConfig& config, const std::string& name, int64_t expert,
                         int64_t experts, int64_t rows, int64_t cols, const LinearOptions& options) {
  FETTLE_CHECK(expert >= 0 && expert < experts);
  const Parts parts(source, name);
  if (source.is_gguf())
    return gguf_rows(parts, expert * rows, experts * rows, rows, cols, gguf_scale(parts, expert, experts),
                     options.pool);
  if (config.method() == QuantMethod::kMxfp4 && parts.has("_blocks"))
    return gpt_oss_expert(parts, expert, experts, rows, cols);
  const char* suffix = parts.has("") ? "" : ".weight";
  const Tensor t = parts.need(suffix, {DType::kBF16, DType::kF16, DType::kF32}, {{experts, rows, cols}});
  return dense_weight(t.slice_rows(expert, expert + 1).reshaped({rows, cols}));
}

std::vector<std::string> linear_tensor_names(const TensorSource& source, const std::string& module) {
  std::vector<std::string> names;
  for (const std::string_view suffix : kSuffixes)
    if (std::string name = module + std::string(suffix); source.has(name)) names.push_back(std::move(name));
  return names;
}

std::vector<std::string> linear_tensor_names(const TensorSource& source, const QuantConfig& config,
                                             const std::string& module) {
  std::vector<std::string> names = linear_tensor_names(source, module);
  if (const auto place = find_df11(source, config, module))
    for (std::string& name : df11_tensor_names(source, place->unit)) names.push_back(std::move(name));
  return names;
}

void release_linear(const TensorSource& source, const QuantConfig& config, const std::string& module) {
  release_linear(source, module);
  // The other matrices of the unit still need its bytes; upstream's order is the order of loading.
  if (const auto place = find_df11(source, config, module); place && place->index + 1 == place->count)
    for (const std::string& name : df11_tensor_names(source, place->unit)) source.release(name);
}

void release_linear(const TensorSource& source, const std::string& module) {
  for (const std::string& name : linear_tensor_names(source, module)) source.release(name);
}

}  // namespace fettle::io
