#include "base/error.h"
#include "base/thread_pool.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/dense.h"
#include "tensor/formats/fp8.h"
#include "tensor/formats/fx3.h"
#include "tensor/formats/gguf_blocks.h"
#include "tensor/formats/int.h"
#include "tensor/formats/mx.h"
#include "tensor/formats/nf4.h"
#include "tensor/formats/nvfp4.h"
#include "tensor/weight.h"

namespace fettle {
namespace {

using Encoder = PackedWeight (*)(MatView<const float>, const FormatOptions&, ThreadPool*);

template <Encoder kEncoder>
PackedWeight serial(MatView<const float> w, const FormatOptions& options) {
  return kEncoder(w, options, nullptr);
}

template <Encoder kEncoder>
constexpr FormatInfo row(Format format, std::string_view name, std::string_view summary, int bits, CodeKind kind,
                         int offset, const float* table, int64_t group, double gguf_bits) {
  return {format, name, summary, bits, kind, offset, table, group, gguf_bits, &serial<kEncoder>, kEncoder};
}

namespace ggml = formats::ggml;
template <uint32_t kType>
PackedWeight gguf(MatView<const float> w, const FormatOptions&, ThreadPool* pool) {
  return formats::encode_gguf(kType, w, pool);
}

using K = CodeKind;
using F = Format;
constexpr const float* kE2M1 = formats::kE2M1Table.data();
constexpr const float* kNF4 = formats::kNF4Table.data();
constexpr const float* kIQ4NL = formats::kIQ4NLTable.data();

// In the order of the enumeration.
constexpr FormatInfo kFormats[] = {
    row<formats::encode_f32>(F::kF32, "f32", "32-bit float", 32, K::kDense, 0, nullptr, 0, 0),
    row<formats::encode_f16>(F::kF16, "f16", "16-bit float", 16, K::kDense, 0, nullptr, 0, 0),
    row<formats::encode_bf16>(F::kBF16, "bf16", "16-bit brain float", 16, K::kDense, 0, nullptr, 0, 0),
    row<formats::encode_fp8>(F::kFp8, "fp8", "8-bit float (E4M3), one scale per row, group or tensor", 8, K::kE4M3, 0,
                             nullptr, -1, 0),
    row<formats::encode_int8>(F::kInt8, "int8", "8-bit integers, one scale per row or group", 8, K::kSigned8, 0,
                              nullptr, -1, 0),
    row<formats::encode_int4>(F::kInt4, "int4", "4-bit integer groups, symmetric or with zero points", 4, K::kOffset, 8,
                              nullptr, 128, 0),
    row<formats::encode_int3>(F::kInt3, "int3", "3-bit integer groups, symmetric or with zero points", 4, K::kOffset, 4,
                              nullptr, 64, 0),
    row<formats::encode_int2>(F::kInt2, "int2", "2-bit integer groups, symmetric or with zero points", 4, K::kOffset, 2,
                              nullptr, 64, 0),
    row<formats::encode_nf4>(F::kNF4, "nf4", "4-bit normal-float table, blocks of 64", 4, K::kTable16, 0, kNF4, 64, 0),
    row<formats::encode_mxfp4>(F::kMxfp4, "mxfp4", "OCP MXFP4: 4-bit floats, power-of-two scale per 32", 4, K::kTable16,
                               0, kE2M1, 32, 0),
    row<formats::encode_mxfp8>(F::kMxfp8, "mxfp8", "OCP MXFP8: 8-bit floats (E4M3), power-of-two scale per 32", 8,
                               K::kE4M3, 0, nullptr, 32, 0),
    row<formats::encode_nvfp4>(F::kNvfp4, "nvfp4", "NVFP4: 4-bit floats, FP8 scale per 16, one tensor scale", 4,
                               K::kTable16, 0, kE2M1, 16, 0),
    row<gguf<ggml::kQ8_0>>(F::kQ8_0, "q8_0", "GGUF Q8_0: 8-bit integers per 32", 8, K::kSigned8, 0, nullptr, 32, 8.5),
    row<gguf<ggml::kQ4_0>>(F::kQ4_0, "q4_0", "GGUF Q4_0: 4-bit integers per 32", 4, K::kOffset, 8, nullptr, 32, 4.5),
    row<gguf<ggml::kQ4_1>>(F::kQ4_1, "q4_1", "GGUF Q4_1: 4-bit integers per 32 with a minimum", 4, K::kOffset, 0,
                           nullptr, 32, 5.0),
    row<gguf<ggml::kQ5_0>>(F::kQ5_0, "q5_0", "GGUF Q5_0: 5-bit integers per 32", 8, K::kSigned8, 0, nullptr, 32, 5.5),
    row<gguf<ggml::kQ5_1>>(F::kQ5_1, "q5_1", "GGUF Q5_1: 5-bit integers per 32 with a minimum", 8, K::kOffset, 0,
                           nullptr, 32, 6.0),
    row<gguf<ggml::kQ2_K>>(F::kQ2_K, "q2_k", "GGUF Q2_K: 2-bit super-blocks of 256", 4, K::kOffset, 0, nullptr, 16,
                           2.625),
    row<gguf<ggml::kQ3_K>>(F::kQ3_K, "q3_k", "GGUF Q3_K: 3-bit super-blocks of 256", 4, K::kOffset, 4, nullptr, 16,
                           3.4375),
    row<gguf<ggml::kQ4_K>>(F::kQ4_K, "q4_k", "GGUF Q4_K: 4-bit super-blocks of 256", 4, K::kOffset, 0, nullptr, 32,
                           4.5),
    row<gguf<ggml::kQ5_K>>(F::kQ5_K, "q5_k", "GGUF Q5_K: 5-bit super-blocks of 256", 8, K::kOffset, 0, nullptr, 32,
                           5.5),
    row<gguf<ggml::kQ6_K>>(F::kQ6_K, "q6_k", "GGUF Q6_K: 6-bit super-blocks of 256", 8, K::kSigned8, 0, nullptr, 16,
                           6.5625),
    row<gguf<ggml::kIQ4_NL>>(F::kIQ4_NL, "iq4_nl", "GGUF IQ4_NL: 4-bit non-linear table per 32", 4, K::kTable16, 0,
                             kIQ4NL, 32, 4.5),
    row<gguf<ggml::kQ1_0>>(F::kQ1_0, "q1_0", "GGUF Q1_0: signs per 128", 4, K::kOffset, 1, nullptr, 128, 1.125),
    row<gguf<ggml::kQ2_0>>(F::kQ2_0, "q2_0", "GGUF Q2_0: -1, 0, 1, 2 per 64", 4, K::kOffset, 1, nullptr, 64, 2.25),
    row<formats::encode_fx3>(F::kFx3, "fx3", "lossless bf16 in 12 bits: 4-bit indices of high bytes, for fast decoding",
                             16, K::kBF16Planes, 0, nullptr, 0, 0),
};

}  // namespace

std::span<const FormatInfo> all_formats() { return kFormats; }

const FormatInfo& format_info(Format format) {
  const auto i = static_cast<size_t>(format);
  FETTLE_CHECK(i < std::size(kFormats) && kFormats[i].format == format);
  return kFormats[i];
}

const FormatInfo* find_format(std::string_view name) {
  for (const FormatInfo& info : kFormats)
    if (info.name == name) return &info;
  return nullptr;
}

PackedWeight encode(const FormatInfo& info, MatView<const float> w, const FormatOptions& options, ThreadPool& pool) {
  if (info.encode_pool == nullptr) fail(ErrorCode::kUsage, "format {}: can be read but not written", info.name);
  return info.encode_pool(w, options, &pool);
}

}  // namespace fettle
