#include "io/ggml_types.h"

#include <algorithm>

namespace fettle::io {
namespace {

constexpr GgmlType kTypes[] = {
    {0, "F32", 1, 4, DType::kF32, Format::kF32},
    {1, "F16", 1, 2, DType::kF16, Format::kF16},
    {2, "Q4_0", 32, 18, {}, Format::kQ4_0},
    {3, "Q4_1", 32, 20, {}, Format::kQ4_1},
    {6, "Q5_0", 32, 22, {}, Format::kQ5_0},
    {7, "Q5_1", 32, 24, {}, Format::kQ5_1},
    {8, "Q8_0", 32, 34, {}, Format::kQ8_0},
    {10, "Q2_K", 256, 84, {}, Format::kQ2_K},
    {11, "Q3_K", 256, 110, {}, Format::kQ3_K},
    {12, "Q4_K", 256, 144, {}, Format::kQ4_K},
    {13, "Q5_K", 256, 176, {}, Format::kQ5_K},
    {14, "Q6_K", 256, 210, {}, Format::kQ6_K},
    {20, "IQ4_NL", 32, 18, {}, Format::kIQ4_NL},
    {24, "I8", 1, 1, DType::kI8, {}},
    {25, "I16", 1, 2, DType::kI16, {}},
    {26, "I32", 1, 4, DType::kI32, {}},
    {27, "I64", 1, 8, DType::kI64, {}},
    {28, "F64", 1, 8, DType::kF64, {}},
    {30, "BF16", 1, 2, DType::kBF16, Format::kBF16},
    {39, "MXFP4", 32, 17, {}, Format::kMxfp4},
    {40, "NVFP4", 64, 36, {}, Format::kNvfp4},
    {41, "Q1_0", 128, 18, {}, Format::kQ1_0},
    {42, "Q2_0", 64, 18, {}, Format::kQ2_0},
};

struct Refused {
  uint32_t id;
  std::string_view reason;
};

constexpr Refused kRefused[] = {
    {4, "Q4_2 was removed from ggml in 2023; requantise the original model"},
    {5, "Q4_3 was removed from ggml in 2023; requantise the original model"},
    {9, "Q8_1 is an activation type, not a weight type"},
    {15, "Q8_K is an activation type, not a weight type"},
    {16, "IQ2_XXS is not supported; use a K-quant such as Q2_K or Q4_K_M"},
    {17, "IQ2_XS is not supported; use a K-quant such as Q2_K or Q4_K_M"},
    {18, "IQ3_XXS is not supported; use a K-quant such as Q3_K_M or Q4_K_M"},
    {19, "IQ1_S is not supported; use a K-quant such as Q2_K or Q4_K_M"},
    {21, "IQ3_S is not supported; use a K-quant such as Q3_K_M or Q4_K_M"},
    {22, "IQ2_S is not supported; use a K-quant such as Q2_K or Q4_K_M"},
    {23, "IQ4_XS is not supported; use IQ4_NL or Q4_K_M"},
    {29, "IQ1_M is not supported; use a K-quant such as Q2_K or Q4_K_M"},
    {31, "Q4_0_4_4 was removed from ggml; use Q4_0"},
    {32, "Q4_0_4_8 was removed from ggml; use Q4_0"},
    {33, "Q4_0_8_8 was removed from ggml; use Q4_0"},
    {34, "TQ1_0 (ternary) is not supported; use Q2_K or Q4_K_M"},
    {35, "TQ2_0 (ternary) is not supported; use Q2_K or Q4_K_M"},
    {36, "IQ4_NL_4_4 was removed from ggml; use IQ4_NL"},
    {37, "IQ4_NL_4_8 was removed from ggml; use IQ4_NL"},
    {38, "IQ4_NL_8_8 was removed from ggml; use IQ4_NL"},
    {353, "MXFP4_R8 is ik_llama.cpp's interleaved layout; convert the original model to plain MXFP4"},
};

}  // namespace

std::span<const GgmlType> ggml_types() { return kTypes; }

const GgmlType* find_ggml_type(uint32_t id) {
  const auto* it = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const GgmlType& t) { return t.id == id; });
  return it == std::end(kTypes) ? nullptr : it;
}

const GgmlType* find_ggml_type(std::string_view name) {
  const auto* it =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const GgmlType& t) { return t.name == name; });
  return it == std::end(kTypes) ? nullptr : it;
}

std::string_view ggml_type_refusal(uint32_t id) {
  if (find_ggml_type(id)) return {};
  const auto* it = std::find_if(std::begin(kRefused), std::end(kRefused), [&](const Refused& r) { return r.id == id; });
  if (it != std::end(kRefused)) return it->reason;
  if (id >= 100 && id < 1000)
    return "types from 100 up belong to ik_llama.cpp and are not supported; convert the original model to a ggml type";
  return "not a type of ggml; the file is damaged or from a newer version";
}

}  // namespace fettle::io
