#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "io/linear_parts.h"
#include "tensor/formats/codecs.h"

// bitsandbytes 4-bit serialisation (functional.py QuantState.as_dict, csrc kDequantizeBlockwise) and LLM.int8().
namespace fettle::io {
namespace {

constexpr const char* kState = ".weight.quant_state.bitsandbytes__nf4";

// The JSON blob that travels as a U8 tensor.
Json read_state(const Parts& parts) {
  const std::string full = parts.name(kState);
  const Tensor t = parts.source().get(full);
  if (t.dtype() != DType::kU8 || t.rank() != 1)
    parts.refuse(kState, "expected U8 [n] with a JSON text, found " + t.describe());
  const std::string_view text(reinterpret_cast<const char*>(t.bytes().data()), t.nbytes());
  return parse_json(text, fmt::format("{}: tensor \"{}\"", parts.source().file_of(full), printable(full)),
                    {.max_bytes = 64 << 10});
}

// absmax per block as F32, undoing the optional second quantisation: map[code] * nested_absmax[block / 256] + offset.
std::vector<float> read_absmax(const Parts& parts, const JsonReader& state, int64_t blocks) {
  if (!parts.has(".weight.nested_absmax")) return parts.need(".weight.absmax", {DType::kF32}, {{blocks}}).to_f32();
  const int64_t nested = state.integer_or("nested_blocksize", 256, 1, 1 << 20);
  const Tensor codes = parts.need(".weight.absmax", {DType::kU8}, {{blocks}});
  const std::vector<float> outer =
      parts.need(".weight.nested_absmax", {DType::kF32}, {{ceil_div(blocks, nested)}}).to_f32();
  const std::vector<float> map = parts.need(".weight.nested_quant_map", {DType::kF32}, {{256}}).to_f32();
  const auto offset = static_cast<float>(state.number_or("nested_offset", 0.0));
  std::vector<float> out(static_cast<size_t>(blocks));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = map[codes.data<uint8_t>()[i]] * outer[i / static_cast<size_t>(nested)] + offset;
  return out;
}

void check_table(const Parts& parts) {
  if (!parts.has(".weight.quant_map")) return;
  const std::vector<float> map = parts.need(".weight.quant_map", {DType::kF32}, {{16}}).to_f32();
  for (size_t i = 0; i < 16; ++i)
    if (map[i] != formats::kNF4Table[i])
      parts.refuse(".weight.quant_map",
                   fmt::format("entry {}: expected the NF4 value {}, found {}", i, formats::kNF4Table[i], map[i]));
}

PackedWeight read_nf4(const Parts& parts, int64_t rows, int64_t cols) {
  const Json json = read_state(parts);
  const JsonReader state(json, parts.name(kState));
  if (state.string_or("quant_type", "nf4") != "nf4") state.get("quant_type").fail_expected("\"nf4\"");
  const int64_t block = state.integer_or("blocksize", 64, 1, 1 << 20);
  const JsonReader shape = state.at("shape");
  if (shape.array().size() != 2 || shape.at(0).integer() != rows || shape.at(1).integer() != cols)
    shape.fail_expected(fmt::format("[{}, {}]", rows, cols));
  if (cols % block != 0 || cols % 2 != 0)
    parts.refuse(".weight",
                 fmt::format("{} columns are no multiple of the block of {}; blocks across rows are not supported",
                             cols, block));
  check_table(parts);
  const Tensor stored =
      parts.need(".weight", {DType::kU8}, {{rows * cols / 2, 1}, {1, rows * cols / 2}, {rows * cols / 2}});
  PackedWeight w;
  w.format = Format::kNF4;
  w.rows = rows;
  w.cols = cols;
  w.group_size = block;
  w.codes = Tensor::empty(DType::kU8, {rows, cols / 2});
  // The first element of a pair is in the HIGH nibble of the file, in the low one here.
  std::transform(stored.data<uint8_t>(), stored.data<uint8_t>() + stored.numel(), w.codes.mutable_data<uint8_t>(),
                 [](uint8_t b) { return static_cast<uint8_t>(b << 4 | b >> 4); });
  w.scales = Tensor::from<float>(read_absmax(parts, state, rows * cols / block), {rows, cols / block});
  check_finite(parts, ".weight.absmax", w.scales);
  return w;
}

}  // namespace

PackedWeight read_bitsandbytes(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols) {
  if (scheme.format == "nf4") return read_nf4(parts, rows, cols);
  // LLM.int8(): w = q * SCB / 127, SCB the row's absolute maximum.
  PackedWeight w;
  w.format = Format::kInt8;
  w.rows = rows;
  w.cols = cols;
  w.group_size = cols;
  w.codes = parts.need(".weight", {DType::kI8}, {{rows, cols}});
  std::vector<float> scales = parts.need(".SCB", {DType::kF32, DType::kF16}, {{rows}, {rows, 1}}).to_f32();
  for (float& s : scales) s /= 127.0f;
  w.scales = Tensor::from<float>(scales, {rows, 1});
  check_finite(parts, ".SCB", w.scales);
  return w;
}

}  // namespace fettle::io
