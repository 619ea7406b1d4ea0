#include "io/gguf_linear.h"

#include <cstring>

#include "base/error.h"
#include "tensor/formats/gguf_blocks.h"

namespace fettle::io {

std::vector<GgufTensorSpec> gguf_linear_specs(const std::string& module, Format format, int64_t rows, int64_t cols) {
  const formats::GgufBlock* block = formats::find_gguf_block(format);
  if (!block)
    fail(ErrorCode::kInput,
         "tensor \"{}.weight\": format {} has no GGUF type; choose q8_0, q4_0, mxfp4, nvfp4, bf16 or f16",
         printable(module), format_info(format).name);
  std::vector<GgufTensorSpec> out = {{module + ".weight", block->ggml_type, {rows, cols}}};
  if (format == Format::kNvfp4) out.push_back({module + ".scale", formats::ggml::kF32, {1}});
  return out;
}

std::vector<std::vector<std::byte>> gguf_linear_data(const std::string& module, const PackedWeight& w,
                                                     ThreadPool* pool) {
  if (w.format != Format::kNvfp4 && w.tensor_scale != 1.0f)
    fail(ErrorCode::kInput, "tensor \"{}.weight\": {} in GGUF has no place for the tensor scale {}", printable(module),
         format_info(w.format).name, w.tensor_scale);
  std::vector<std::vector<std::byte>> out = {formats::to_gguf_blocks(w, pool)};
  if (w.format == Format::kNvfp4) {
    std::vector<std::byte> scale(sizeof(float));
    std::memcpy(scale.data(), &w.tensor_scale, sizeof(float));
    out.push_back(std::move(scale));
  }
  return out;
}

}  // namespace fettle::io
