#include "tensor/convert.h"

#include <cstring>

#include "base/error.h"
#include "tensor/formats/codecs.h"

namespace fettle {
namespace {

// Byte-wise loads and stores: mapped files promise no alignment. Compilers turn them into plain moves.
template <typename T, typename F>
void read_each(const std::byte* src, std::span<float> out, const F& value) {
  for (size_t i = 0; i < out.size(); ++i) {
    T raw;
    std::memcpy(&raw, src + i * sizeof(T), sizeof(T));
    out[i] = value(raw);
  }
}

template <typename T, typename F>
void write_each(std::span<const float> src, std::byte* dst, const F& code) {
  for (size_t i = 0; i < src.size(); ++i) {
    const T raw = code(src[i]);
    std::memcpy(dst + i * sizeof(T), &raw, sizeof(T));
  }
}

template <typename T>
void read_numbers(const std::byte* src, std::span<float> out) {
  read_each<T>(src, out, [](T v) { return static_cast<float>(v); });
}

}  // namespace

void convert_to_f32(DType dtype, const std::byte* src, std::span<float> out) {
  switch (dtype) {
    case DType::kF64:
      return read_numbers<double>(src, out);
    case DType::kF32:
      if (!out.empty()) std::memcpy(out.data(), src, out.size_bytes());
      return;
    case DType::kF16:
      return read_each<uint16_t>(src, out, formats::f16_to_f32);
    case DType::kBF16:
      return read_each<uint16_t>(src, out, formats::bf16_to_f32);
    case DType::kF8E4M3:
      return read_each<uint8_t>(src, out, formats::e4m3_to_f32);
    case DType::kF8E5M2:
      return read_each<uint8_t>(src, out, formats::e5m2_to_f32);
    case DType::kF8E8M0:
      return read_each<uint8_t>(src, out, formats::e8m0_to_f32);
    case DType::kI64:
      return read_numbers<int64_t>(src, out);
    case DType::kU64:
      return read_numbers<uint64_t>(src, out);
    case DType::kI32:
      return read_numbers<int32_t>(src, out);
    case DType::kU32:
      return read_numbers<uint32_t>(src, out);
    case DType::kI16:
      return read_numbers<int16_t>(src, out);
    case DType::kU16:
      return read_numbers<uint16_t>(src, out);
    case DType::kI8:
      return read_numbers<int8_t>(src, out);
    case DType::kU8:
      return read_numbers<uint8_t>(src, out);
    case DType::kBool:
      return read_each<uint8_t>(src, out, [](uint8_t v) { return v != 0 ? 1.0f : 0.0f; });
  }
  fail(ErrorCode::kInternal, "dtype {}: unknown", static_cast<int>(dtype));
}

void convert_from_f32(std::span<const float> src, DType dtype, std::byte* dst) {
  switch (dtype) {
    case DType::kF32:
      if (!src.empty()) std::memcpy(dst, src.data(), src.size_bytes());
      return;
    case DType::kF16:
      return write_each<uint16_t>(src, dst, formats::f32_to_f16);
    case DType::kBF16:
      return write_each<uint16_t>(src, dst, formats::f32_to_bf16);
    case DType::kF8E4M3:
      return write_each<uint8_t>(src, dst, [](float x) { return formats::f32_to_e4m3(x); });
    case DType::kF8E5M2:
      return write_each<uint8_t>(src, dst, [](float x) { return formats::f32_to_e5m2(x); });
    default:
      fail(ErrorCode::kInternal, "no conversion from F32 to {}", dtype_name(dtype));
  }
}

}  // namespace fettle
