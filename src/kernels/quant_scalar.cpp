#include <cmath>
#include <cstring>

#include "kernels/act_block.h"
#include "kernels/quant_kernels.h"
#include "tensor/formats/codecs.h"

// Portable level, and the definition the native levels must match bit for bit.
namespace fettle::kernels {
namespace scalar {
namespace {

// Position of k (0..3) among 4 stored words.
constexpr size_t kWordOrder[4] = {0, 2, 1, 3};

ActForm act_form(const CodeSpec&, ActMode) { return ActForm::kWords; }

void pack_acts(const float* x, const ActKey& key, const ActRow& out) {
  float tail[kActBlock];
  for (size_t b = 0; b < key.padded_cols / kActBlock; ++b) {
    const float* src = act_block(x, key, b, tail);
    uint32_t max = 0;
    for (size_t i = 0; i < kActBlock; ++i) max = std::max(max, formats::f32_bits(src[i]) & 0x7FFFFFFFu);
    const BlockScale scale = block_scale(max, key.limit);
    int16_t words[kActBlock];
    int32_t halves[2] = {0, 0};
    for (size_t i = 0; i < kActBlock; ++i) {
      const int32_t q = scale.zero ? 0 : static_cast<int32_t>(std::nearbyint(src[i] * scale.inverse));
      words[i / 4 * 4 + kWordOrder[i % 4]] = static_cast<int16_t>(q);
      halves[i / 16] += q;
    }
    std::memcpy(out.codes + b * sizeof words, words, sizeof words);
    store_block_sums(key, b, scale.scale, halves[0], halves[1], out);
  }
}

float widen_one(DType dtype, const uint8_t* src, size_t i) {
  uint16_t half;
  float value;
  switch (dtype) {
    case DType::kF32:
      std::memcpy(&value, src + 4 * i, 4);
      return value;
    case DType::kF16:
      std::memcpy(&half, src + 2 * i, 2);
      return formats::f16_to_f32(half);
    case DType::kBF16:
      std::memcpy(&half, src + 2 * i, 2);
      return formats::bf16_to_f32(half);
    case DType::kF8E8M0:
      return formats::e8m0_to_f32(src[i]);
    case DType::kF8E4M3:
      return formats::e4m3_to_f32(src[i]);
    case DType::kI8:
      return static_cast<float>(static_cast<int8_t>(src[i]));
    default:
      return static_cast<float>(src[i]);
  }
}

void widen(DType dtype, const uint8_t* src, size_t n, float* dst) {
  for (size_t i = 0; i < n; ++i) dst[i] = widen_one(dtype, src, i);
}

void scale_groups(const float* factor, size_t n, float* values) {
  for (size_t i = 0; i < n * kLanes; ++i) values[i] *= factor[i % kLanes];
}

int code_value(const CodeSpec& spec, const uint8_t* codes, size_t k, size_t lane) {
  if (spec.form == CodeForm::kByte) return codes[k / 4 * 64 + lane * 4 + k % 4];
  const uint8_t byte = codes[k / 8 * 64 + lane * 4 + k % 4];
  const uint8_t nibble = k % 8 < 4 ? byte & 15 : byte >> 4;
  if (spec.form == CodeForm::kNibble) return nibble;
  if (spec.form == CodeForm::kNibbleTable) return spec.table[nibble];
  return static_cast<int16_t>(static_cast<uint16_t>(spec.table[nibble] | spec.table_high[nibble] << 8));
}

void unpack(const CodeSpec&, const uint8_t*, size_t, uint8_t*) {}  // never asked for: fused_tokens has no limit

void dot(const DotArgs& d) {
  alignas(64) int32_t values[kActBlock * kLanes];
  for (size_t s = 0; s < d.steps; ++s) {
    const size_t group = (d.first_in_group + s) / d.steps_per_group;
    for (size_t k = 0; k < d.step; ++k)
      for (size_t lane = 0; lane < kLanes; ++lane)
        values[k * kLanes + lane] = code_value(*d.spec, d.codes, s * d.step + k, lane);
    for (size_t t = 0; t < d.tokens; ++t) {
      const int32_t correction = d.corrections[t * d.step_stride + s];
      int32_t sum[kLanes];
      for (size_t lane = 0; lane < kLanes; ++lane)
        sum[lane] = d.zero_points ? -(d.zero_points[group * kLanes + lane] * correction) : correction;
      const uint8_t* acts = d.acts + t * d.act_stride + s * d.step * 2;
      for (size_t k = 0; k < d.step; ++k) {
        int16_t a;
        std::memcpy(&a, acts + 2 * (k / 4 * 4 + kWordOrder[k % 4]), 2);
        for (size_t lane = 0; lane < kLanes; ++lane) sum[lane] += values[k * kLanes + lane] * a;
      }
      const float act_scale = d.act_scales[t * d.scale_stride + s * d.step / kActBlock];
      float* acc = d.acc + t * kLanes;
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const float factor = d.scales[group * kLanes + lane] * act_scale;
        acc[lane] = std::fma(static_cast<float>(sum[lane]), factor, acc[lane]);
        if (d.mins) acc[lane] = std::fma(d.mins[group * kLanes + lane], d.act_sums[t * d.step_stride + s], acc[lane]);
      }
    }
  }
}

void unpack_fp8(const uint8_t* codes, size_t k, float* panel) {
  for (size_t i = 0; i < k * kLanes; ++i) panel[i] = formats::e4m3_to_f32(codes[i]);
}

void fp8(const Fp8Args& d) {
  for (size_t t = 0; t < d.tokens; ++t) {
    const float* scales = d.scales;
    for (size_t begin = 0; begin < d.cols; begin += d.group, scales += kLanes) {
      const size_t end = std::min(d.cols, begin + d.group);
      for (size_t lane = 0; lane < kLanes; ++lane) {
        float sum[2] = {0.0f, 0.0f};
        for (size_t k = begin; k < end; ++k) {
          const float w = d.panel ? d.panel[k * kLanes + lane] : formats::e4m3_to_f32(d.codes[k * kLanes + lane]);
          float& chain = sum[(k - begin) % 2];
          chain = std::fma(w, d.x[t * d.x_stride + k], chain);
        }
        float& acc = d.acc[t * kLanes + lane];
        acc = std::fma(scales[lane], sum[0] + sum[1], acc);
      }
    }
  }
}

}  // namespace
}  // namespace scalar

const QuantKernels& scalar_quant_kernels() {
  static constexpr QuantKernels kKernels{
      "scalar",       Isa::kScalar,          SIZE_MAX,        &scalar::act_form, &scalar::pack_acts,
      &scalar::widen, &scalar::scale_groups, &scalar::unpack, &scalar::dot,      &scalar::unpack_fp8,
      &scalar::fp8};
  return kKernels;
}

}  // namespace fettle::kernels
