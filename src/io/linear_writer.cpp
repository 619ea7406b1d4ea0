#include "io/linear_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/pack.h"

namespace fettle::io {
namespace {

enum class Dialect { kDense, kPacked, kIntBytes, kFp8, kMxfp4, kMxfp8, kNvfp4, kNf4 };

Dialect dialect_of(const WeightPlan& p) {
  switch (p.format) {
    case Format::kF32:
    case Format::kF16:
    case Format::kBF16:
      return Dialect::kDense;
    case Format::kInt4:
    case Format::kInt3:
    case Format::kInt2:
      return Dialect::kPacked;
    case Format::kInt8:
      return p.group_size == p.cols && !p.zero_points ? Dialect::kIntBytes : Dialect::kPacked;
    case Format::kFp8:
      return Dialect::kFp8;
    case Format::kMxfp4:
      return Dialect::kMxfp4;
    case Format::kMxfp8:
      return Dialect::kMxfp8;
    case Format::kNvfp4:
      return Dialect::kNvfp4;
    case Format::kNF4:
      return Dialect::kNf4;
    default:
      fail(ErrorCode::kUsage,
           "format {}: GGUF block types are written to .gguf files only; known here: int2, int3, int4, int8, fp8, "
           "mxfp4, mxfp8, nvfp4, nf4, f32, f16, bf16",
           format_info(p.format).name);
  }
}

int bits_of(Format format) {
  return format == Format::kInt4 ? 4 : format == Format::kInt3 ? 3 : format == Format::kInt2 ? 2 : 8;
}

DType dense_type(Format format) {
  return format == Format::kF32 ? DType::kF32 : format == Format::kF16 ? DType::kF16 : DType::kBF16;
}

Json quant_state(const WeightPlan& p) {
  Json shape = Json::array();
  shape.push_back(Json(p.rows));
  shape.push_back(Json(p.cols));
  Json state = Json::object();
  state["quant_type"] = Json("nf4");
  state["blocksize"] = Json(p.group_size);
  state["dtype"] = Json("bfloat16");
  state["shape"] = std::move(shape);
  return state;
}

Tensor bytes_tensor(std::string_view text) {
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  return Tensor::from<uint8_t>({p, text.size()}, {static_cast<int64_t>(text.size())});
}

std::shared_ptr<const void> owner_of(const Tensor& t) {
  return t.owned() ? std::make_shared<Tensor>(t) : t.keep_alive();
}
Tensor view_as(const Tensor& t, DType dtype, std::vector<int64_t> shape) {
  return Tensor::borrow(dtype, std::move(shape), t.bytes(), owner_of(t));
}

// The F32 whose reciprocal is the weight's factor: files store the divisor.
float divisor(float tensor_scale) {
  const float g = 1.0f / tensor_scale;
  for (const float candidate : {g, std::nextafter(g, 0.0f), std::nextafter(g, INFINITY)})
    if (1.0f / candidate == tensor_scale) return candidate;
  return g;
}

// Bytes of a row, padded to whole 32-bit words, as I32 [N, words].
Tensor padded_words(const uint8_t* bytes, int64_t rows, int64_t row_bytes) {
  const int64_t words = ceil_div<int64_t>(row_bytes, 4);
  Tensor out = Tensor::zeros(DType::kI32, {rows, words});
  auto* to = reinterpret_cast<uint8_t*>(out.mutable_data<int32_t>());
  for (int64_t n = 0; n < rows; ++n)
    std::memcpy(to + n * words * 4, bytes + n * row_bytes, static_cast<size_t>(row_bytes));
  return out;
}

Tensor packed_codes(const PackedWeight& w) {
  if (w.format == Format::kInt4) {
    if (w.cols % 8 == 0) return view_as(w.codes, DType::kI32, {w.rows, w.cols / 8});
    return padded_words(w.codes.data<uint8_t>(), w.rows, w.codes.dim(1));
  }
  if (w.format == Format::kInt3 || w.format == Format::kInt2) {
    const auto n = static_cast<size_t>(w.rows), k = static_cast<size_t>(w.cols), pairs = ceil_div<size_t>(k, 2);
    std::vector<uint8_t> all(n * k);
    for (size_t r = 0; r < n; ++r)
      formats::unpack_nibbles(w.codes.data<uint8_t>() + r * pairs, std::span(all).subspan(r * k, k));
    const std::vector<int32_t> words = formats::pack_int32(all, n, k, bits_of(w.format));
    return Tensor::from<int32_t>(words, {w.rows, static_cast<int64_t>(words.size() / n)});
  }
  const auto* codes = reinterpret_cast<const uint8_t*>(w.codes.bytes().data());
  std::vector<uint8_t> unsigned_codes(codes, codes + w.codes.nbytes());
  if (w.codes.dtype() == DType::kI8)  // q + 128
    for (uint8_t& c : unsigned_codes) c ^= 0x80;
  return padded_words(unsigned_codes.data(), w.rows, w.cols);
}

Tensor packed_zeros(const PackedWeight& w) {
  const auto n = static_cast<size_t>(w.rows), g = static_cast<size_t>(w.groups());
  const std::vector<int32_t> words =
      formats::pack_int32_rows({w.zero_points.data<uint8_t>(), n * g}, n, g, bits_of(w.format));
  return Tensor::from<int32_t>(words, {static_cast<int64_t>(words.size() / g), w.groups()});
}

Tensor nf4_codes(const PackedWeight& w) {
  Tensor out = Tensor::empty(DType::kU8, {w.rows * w.cols / 2, 1});
  const uint8_t* from = w.codes.data<uint8_t>();
  // bitsandbytes keeps the first element of a pair in the high nibble.
  std::transform(from, from + out.numel(), out.mutable_data<uint8_t>(),
                 [](uint8_t b) { return static_cast<uint8_t>(b << 4 | b >> 4); });
  return out;
}

Tensor weight_shape(const WeightPlan& p) {
  const int64_t shape[] = {p.rows, p.cols};
  return Tensor::from<int64_t>(shape, {2});
}

}  // namespace

WeightPlan plan_weight(Format format, int64_t rows, int64_t cols, const FormatOptions& options) {
  WeightPlan p{format, rows, cols, 0, false, options.scale_dtype};
  const FormatInfo& info = format_info(format);
  const Dialect dialect = dialect_of(p);
  if (dialect == Dialect::kDense) return p;
  const int64_t asked = options.group_size != 0 ? options.group_size : info.default_group;
  p.group_size = asked < 0 ? cols : std::min(asked, cols);
  p.zero_points = dialect == Dialect::kPacked || dialect == Dialect::kIntBytes ? !options.symmetric : false;
  if (format == Format::kMxfp4 || format == Format::kMxfp8) p.scale_dtype = DType::kF8E8M0;
  if (format == Format::kNvfp4) p.scale_dtype = DType::kF8E4M3;
  if (cols % p.group_size != 0)
    fail(ErrorCode::kInput,
         "{}: {} columns are no multiple of the group size {}; compressed-tensors has no short groups", info.name, cols,
         p.group_size);
  return p;
}

WeightPlan plan_of(const PackedWeight& w) {
  WeightPlan p{w.format, w.rows, w.cols, w.group_size, w.zero_points.numel() != 0, w.scales.dtype()};
  p.col_scales = !w.input.col_scales.is_empty();
  p.hadamard = w.input.hadamard;
  if (!w.input.rotation.is_empty())
    fail(ErrorCode::kInput, "{}: rotation {}: compressed-tensors files can name Hadamard matrices only",
         format_info(w.format).name, w.input.rotation.describe());
  if (w.input.present() && dialect_of(p) == Dialect::kDense)
    fail(ErrorCode::kInput, "{}: dense files have no place for column scales or rotated inputs",
         format_info(w.format).name);
  if (p.hadamard > 1 && dialect_of(p) == Dialect::kNf4)
    fail(ErrorCode::kInput, "nf4: bitsandbytes files have no place for rotated inputs");
  if (dialect_of(p) != Dialect::kDense && w.cols % w.group_size != 0)
    fail(ErrorCode::kInput,
         "{}: {} columns are no multiple of the group size {}; compressed-tensors has no short groups",
         format_info(w.format).name, w.cols, w.group_size);
  return p;
}

namespace {

std::vector<TensorSpec> code_specs(const std::string& module, const WeightPlan& p) {
  const auto spec = [&](const char* suffix, DType dtype, std::vector<int64_t> shape) {
    return TensorSpec{module + suffix, dtype, std::move(shape)};
  };
  const int64_t n = p.rows, k = p.cols, g = p.group_size > 0 ? ceil_div(p.cols, p.group_size) : 0;
  switch (dialect_of(p)) {
    case Dialect::kDense:
      return {spec(".weight", dense_type(p.format), {n, k})};
    case Dialect::kPacked: {
      const int64_t bits = bits_of(p.format);
      std::vector<TensorSpec> out = {spec(".weight_packed", DType::kI32, {n, ceil_div<int64_t>(k * bits, 32)}),
                                     spec(".weight_scale", p.scale_dtype, {n, g}),
                                     spec(".weight_shape", DType::kI64, {2})};
      if (p.zero_points) out.push_back(spec(".weight_zero_point", DType::kI32, {ceil_div<int64_t>(n * bits, 32), g}));
      return out;
    }
    case Dialect::kIntBytes:
      return {spec(".weight", DType::kI8, {n, k}), spec(".weight_scale", p.scale_dtype, {n, g})};
    case Dialect::kFp8:
      return {spec(".weight", DType::kF8E4M3, {n, k}), spec(".weight_scale", p.scale_dtype, {n, g})};
    case Dialect::kMxfp4:
      return {spec(".weight_packed", DType::kU8, {n, k / 2}), spec(".weight_scale", DType::kU8, {n, g})};
    case Dialect::kMxfp8:
      return {spec(".weight", DType::kF8E4M3, {n, k}), spec(".weight_scale", DType::kU8, {n, g})};
    case Dialect::kNvfp4:
      return {spec(".weight_packed", DType::kU8, {n, k / 2}), spec(".weight_scale", DType::kF8E4M3, {n, g}),
              spec(".weight_global_scale", DType::kF32, {1})};
    case Dialect::kNf4:
      break;
  }
  const int64_t state_bytes = static_cast<int64_t>(quant_state(p).dump().size());
  return {spec(".weight", DType::kU8, {n * k / 2, 1}), spec(".weight.absmax", DType::kF32, {n * g}),
          spec(".weight.quant_map", DType::kF32, {16}),
          spec(".weight.quant_state.bitsandbytes__nf4", DType::kU8, {state_bytes})};
}

std::vector<std::pair<std::string, Tensor>> code_tensors(const std::string& module, const PackedWeight& w,
                                                         const WeightPlan& p) {
  const Dialect dialect = dialect_of(p);
  if (dialect != Dialect::kDense && !w.mins.is_empty())
    fail(ErrorCode::kInput, "{}: {} has no place for fractional zero points in this dialect", printable(module),
         format_info(w.format).name);
  if (dialect != Dialect::kNvfp4 && w.tensor_scale != 1.0f)
    fail(ErrorCode::kInput, "{}: {} has no place for the tensor scale {} in this dialect", printable(module),
         format_info(w.format).name, w.tensor_scale);
  const auto scales_u8 = [&] { return view_as(w.scales, DType::kU8, {w.rows, w.groups()}); };
  switch (dialect) {
    case Dialect::kDense:
      return {{module + ".weight", w.codes}};
    case Dialect::kPacked: {
      std::vector<std::pair<std::string, Tensor>> out = {{module + ".weight_packed", packed_codes(w)},
                                                         {module + ".weight_scale", w.scales},
                                                         {module + ".weight_shape", weight_shape(p)}};
      if (p.zero_points) out.emplace_back(module + ".weight_zero_point", packed_zeros(w));
      return out;
    }
    case Dialect::kIntBytes:
    case Dialect::kFp8:
      return {{module + ".weight", w.codes}, {module + ".weight_scale", w.scales}};
    case Dialect::kMxfp4:
      return {{module + ".weight_packed", w.codes}, {module + ".weight_scale", scales_u8()}};
    case Dialect::kMxfp8:
      return {{module + ".weight", w.codes}, {module + ".weight_scale", scales_u8()}};
    case Dialect::kNvfp4: {
      const float global[] = {divisor(w.tensor_scale)};
      return {{module + ".weight_packed", w.codes},
              {module + ".weight_scale", w.scales},
              {module + ".weight_global_scale", Tensor::from<float>(global, {1})}};
    }
    case Dialect::kNf4:
      break;
  }
  return {{module + ".weight", nf4_codes(w)},
          {module + ".weight.absmax", Tensor::from<float>(w.scales.to_f32(), {w.scales.numel()})},
          {module + ".weight.quant_map", Tensor::from<float>(formats::kNF4Table, {16})},
          {module + ".weight.quant_state.bitsandbytes__nf4", bytes_tensor(quant_state(p).dump())}};
}

}  // namespace

std::vector<TensorSpec> linear_specs(const std::string& module, const WeightPlan& p) {
  std::vector<TensorSpec> out = code_specs(module, p);
  if (p.col_scales) out.push_back({module + ".weight_col_scale", DType::kF32, {p.cols}});
  return out;
}

std::vector<std::pair<std::string, Tensor>> linear_tensors(const std::string& module, const PackedWeight& w) {
  check_packed(w);
  const WeightPlan p = plan_of(w);
  std::vector<std::pair<std::string, Tensor>> out = code_tensors(module, w, p);
  if (p.col_scales) out.emplace_back(module + ".weight_col_scale", w.input.col_scales);
  return out;
}

// ---- config.json ----

namespace {

const char* format_name(Dialect d) {
  switch (d) {
    case Dialect::kPacked:
      return "pack-quantized";
    case Dialect::kIntBytes:
      return "int-quantized";
    case Dialect::kFp8:
      return "float-quantized";
    case Dialect::kMxfp4:
      return "mxfp4-pack-quantized";
    case Dialect::kMxfp8:
      return "mxfp8-quantized";
    case Dialect::kNvfp4:
      return "nvfp4-pack-quantized";
    default:
      return "dense";
  }
}

// All keys of QuantizationArgs, in upstream's alphabetical order.
Json quant_args(int bits, const char* type, bool symmetric, const char* strategy, Json group_size, Json dynamic,
                Json scale_dtype, Json zp_dtype, Json observer) {
  Json a = Json::object();
  a["actorder"] = Json();
  a["block_structure"] = Json();
  a["dynamic"] = std::move(dynamic);
  a["group_size"] = std::move(group_size);
  a["num_bits"] = Json(bits);
  a["observer"] = std::move(observer);
  a["observer_kwargs"] = Json::object();
  a["scale_dtype"] = std::move(scale_dtype);
  a["strategy"] = Json(strategy);
  a["symmetric"] = Json(symmetric);
  a["type"] = Json(type);
  a["zp_dtype"] = std::move(zp_dtype);
  return a;
}

Json weight_args(const WeightPlan& p, Dialect d) {
  const bool per_row = p.group_size == p.cols;
  const char* strategy = d == Dialect::kNvfp4                                      ? "tensor_group"
                         : per_row && d != Dialect::kMxfp4 && d != Dialect::kMxfp8 ? "channel"
                                                                                   : "group";
  const bool is_float = d == Dialect::kFp8 || d == Dialect::kMxfp4 || d == Dialect::kMxfp8 || d == Dialect::kNvfp4;
  const int bits = d == Dialect::kMxfp4 || d == Dialect::kNvfp4 ? 4 : bits_of(p.format);
  const Json scale = d == Dialect::kNvfp4                           ? Json("torch.float8_e4m3fn")
                     : d == Dialect::kMxfp4 || d == Dialect::kMxfp8 ? Json("torch.uint8")
                                                                    : Json();
  return quant_args(bits, is_float ? "float" : "int", !p.zero_points, strategy,
                    std::string_view(strategy) == "channel" ? Json() : Json(p.group_size), Json(false), scale,
                    p.zero_points ? Json("torch.int8") : Json(), Json("memoryless_minmax"));
}

Json group_json(const WeightPlan& p, Json targets) {
  const Dialect d = dialect_of(p);
  Json g = Json::object();
  g["format"] = Json(format_name(d));
  // vLLM runs int-quantized weights only with 8-bit activations, chosen per token at run time.
  g["input_activations"] = d == Dialect::kIntBytes
                               ? quant_args(8, "int", true, "token", Json(), Json(true), Json(), Json(), Json())
                               : Json();
  g["output_activations"] = Json();
  g["targets"] = std::move(targets);
  g["weights"] = weight_args(p, d);
  return g;
}

Json names_json(const std::vector<std::string>& names) {
  Json out = Json::array();
  for (const std::string& n : names) out.push_back(Json(n));
  return out;
}

Json bitsandbytes_json(const std::vector<std::string>& dense) {
  Json q = Json::object();
  q["_load_in_4bit"] = Json(true);
  q["_load_in_8bit"] = Json(false);
  q["bnb_4bit_compute_dtype"] = Json("bfloat16");
  q["bnb_4bit_quant_storage"] = Json("uint8");
  q["bnb_4bit_quant_type"] = Json("nf4");
  q["bnb_4bit_use_double_quant"] = Json(false);
  q["llm_int8_enable_fp32_cpu_offload"] = Json(false);
  q["llm_int8_has_fp16_weight"] = Json(false);
  q["llm_int8_skip_modules"] = names_json(dense);
  q["llm_int8_threshold"] = Json(6.0);
  q["load_in_4bit"] = Json(true);
  q["load_in_8bit"] = Json(false);
  q["quant_method"] = Json("bitsandbytes");
  return q;
}

// Same scheme, whatever the matrix shape.
bool same_scheme(const WeightPlan& a, const WeightPlan& b) {
  return a.format == b.format && a.zero_points == b.zero_points && dialect_of(a) == dialect_of(b) &&
         (a.group_size == b.group_size || (a.group_size == a.cols && b.group_size == b.cols));
}

}  // namespace

namespace {

// Block rotations as upstream's QuIPModifier(transform_block_size = k, rotations = ["v"]) writes them. A block size
// that every quantised module shares targets "Linear".
Json transform_json(const std::map<int64_t, std::vector<std::string>>& rotated, const std::vector<std::string>& dense,
                    size_t quantised) {
  if (rotated.empty()) return Json::object();
  Json groups = Json::object();
  for (const auto& [k, modules] : rotated) {
    const bool all = modules.size() == quantised;
    Json apply = Json::array();
    for (const bool on_weight : {false, true}) {
      Json a = Json::object();
      a["ignore"] = names_json(all ? dense : std::vector<std::string>{});
      a["inverse"] = Json(on_weight);
      a["location"] = Json(on_weight ? "weight_input" : "input");
      a["targets"] = all ? names_json({"Linear"}) : names_json(modules);
      apply.push_back(std::move(a));
    }
    Json scheme = Json::object();
    scheme["apply"] = std::move(apply);
    scheme["head_dim"] = Json(k);
    scheme["randomize"] = Json(false);
    scheme["requires_grad"] = Json(false);
    scheme["type"] = Json("hadamard");
    groups[rotated.size() == 1 ? std::string("v") : fmt::format("v{}", k)] = std::move(scheme);
  }
  Json out = Json::object();
  out["config_groups"] = std::move(groups);
  return out;
}

}  // namespace

void QuantSection::add(const std::string& module, const WeightPlan& plan) {
  if (plan.hadamard > 1) rotated_[plan.hadamard].push_back(module);
  if (dialect_of(plan) == Dialect::kDense) {
    dense_.push_back(module);
    return;
  }
  const auto it =
      std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) { return same_scheme(g.plan, plan); });
  if (it != groups_.end())
    it->modules.push_back(module);
  else
    groups_.push_back({plan, {module}});
}

Json QuantSection::json() const {
  if (groups_.empty()) return {};
  const bool nf4 =
      std::any_of(groups_.begin(), groups_.end(), [](const Group& g) { return g.plan.format == Format::kNF4; });
  if (nf4 && groups_.size() > 1)
    fail(ErrorCode::kUsage, "nf4 is stored in bitsandbytes layout and cannot be mixed with other formats in one model");
  if (nf4) return bitsandbytes_json(dense_);
  Json config_groups = Json::object();
  bool mixed = false;
  size_t quantised = 0;
  for (const Group& g : groups_) quantised += g.modules.size();
  for (size_t i = 0; i < groups_.size(); ++i) {
    const Group& g = groups_[i];
    mixed |= dialect_of(g.plan) != dialect_of(groups_[0].plan);
    config_groups[fmt::format("group_{}", i)] =
        group_json(g.plan, groups_.size() == 1 ? names_json({"Linear"}) : names_json(g.modules));
  }
  Json q = Json::object();
  q["config_groups"] = std::move(config_groups);
  q["format"] = Json(mixed ? "mixed-precision" : format_name(dialect_of(groups_[0].plan)));
  q["global_compression_ratio"] = Json();
  q["ignore"] = names_json(dense_);
  q["kv_cache_scheme"] = Json();
  q["quant_method"] = Json("compressed-tensors");
  q["quantization_status"] = Json("compressed");
  q["sparsity_config"] = Json::object();
  q["transform_config"] = transform_json(rotated_, dense_, quantised);
  q["version"] = Json("0.12.0");
  return q;
}

}  // namespace fettle::io
