#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/cpu.h"
#include "kernels/matmul.h"
#include "tensor/dtype.h"

// Interface between the driver of quantised products (quant_matmul.cpp) and the kernels of each ISA level. Layouts are
// described in src/kernels/README.md.
namespace fettle::kernels {

inline constexpr size_t kLanes = 16;       // weight rows of a block = 32-bit lanes of one AVX-512 or two AVX2 registers
inline constexpr size_t kActBlock = 32;    // k values that share an activation scale
inline constexpr size_t kPanelK = 512;     // k values unpacked at a time: 8 or 16 KiB of codes, half of L1
inline constexpr size_t kTokenTile = 128;  // tokens per work item: their sums (8 KiB) stay in L1

// How a stored code becomes the number that is multiplied.
enum class CodeForm : uint8_t {
  kNibble,         // 4 bits, value 0..15
  kNibbleTable,    // 4 bits, u8 = table[code]
  kNibbleTable16,  // 4 bits, s16 = table[code] | table_high[code] << 8
  kByte,           // u8
};

// The multiplied number is `code value - offset`; offset is applied through the sums of the activations.
struct CodeSpec {
  CodeForm form = CodeForm::kByte;
  int max_value = 255;  // largest u8 after the table: decides whether AVX2 may use vpmaddubsw
  int offset = 0;       // kNibbleTable16: 0
  alignas(16) uint8_t table[16] = {};
  alignas(16) uint8_t table_high[16] = {};
};

// Storage of quantised activations, 4 k values at a time.
enum class ActForm : uint8_t {
  kBytes,  // a: 4 x s8
  kSplit,  // a = 256 * high + low: 4 x s8 high, then 4 x s8 low
  kWords,  // 4 x s16 in the order k0 k2 k1 k3
};
constexpr size_t act_bytes(ActForm form) { return form == ActForm::kBytes ? 1 : 2; }  // per k

// What one row of activations is converted to. Weights with equal keys share a conversion.
struct ActKey {
  ActForm form = ActForm::kWords;
  int limit = 127;     // largest |a|
  size_t step = 32;    // k values per integer sum, 16 or 32
  int sum_factor = 0;  // corrections = sum_factor * sum(a) over a step: -offset, or 1 for zero points
  size_t cols = 0;     // K
  size_t group = 0;    // 0: positions are k. Otherwise groups of `group` k are padded to padded_group positions
  size_t padded_group = 0;
  size_t padded_cols = 0;  // positions, a multiple of 32
  bool operator==(const ActKey&) const = default;
};

// Destination of one converted row.
struct ActRow {
  uint8_t* codes;        // padded_cols * act_bytes(form)
  float* scales;         // [padded_cols / 32]
  int32_t* corrections;  // [padded_cols / step]
  float* sums;           // [padded_cols / step] scale * sum(a)
};

// acc[t][lane] += sum over steps of scale[lane] * act_scale[t] * (sum_k code*a + correction) (+ min[lane] *
// act_sum[t]), steps in ascending order, each as fma(float(sum), scale * act_scale, acc), then fma(min, act_sum, acc).
struct DotArgs {
  const CodeSpec* spec;
  bool unpacked;         // codes are what `unpack` wrote
  const uint8_t* codes;  // [steps * step / 8 units]
  size_t step;           // 16 or 32
  size_t steps;
  size_t steps_per_group;
  size_t first_in_group;       // position of the first step in its group
  const float* scales;         // [groups][16]
  const float* mins;           // [groups][16] or null
  const int32_t* zero_points;  // [groups][16] or null: correction = -zero * sum
  ActForm form;
  size_t tokens;
  const uint8_t* acts;  // [tokens], act_stride bytes apart
  size_t act_stride;
  const float* act_scales;  // [tokens][steps * step / 32], scale_stride apart
  size_t scale_stride;
  const int32_t* corrections;  // [tokens][steps], step_stride apart
  const float* act_sums;       // [tokens][steps], step_stride apart
  size_t step_stride;
  float* acc;  // [tokens][16]
};

// fp8: acc[t][lane] += sum over groups of scale[lane] * sum_k w[k][lane] * x[t][k]; within a group even and odd k have
// their own fma chains, added at its end. The driver cuts groups longer than kFp8Segment into segments.
inline constexpr size_t kFp8Segment = 256;
struct Fp8Args {
  const uint8_t* codes;  // [k][16] E4M3
  const float* panel;    // the same as F32 (what unpack_fp8 wrote) or null
  size_t cols;           // k values in this call, <= kFp8Segment, whole groups but for the last
  size_t group;          // k values per group
  const float* scales;   // [groups][16]
  size_t tokens;
  const float* x;  // [tokens][cols], x_stride apart
  size_t x_stride;
  float* acc;  // [tokens][16]
};

struct QuantKernels {
  std::string_view name;
  Isa isa;
  size_t fused_tokens;  // up to this many tokens codes are unpacked in registers, above into a panel
  ActForm (*act_form)(const CodeSpec& spec, ActMode mode);
  void (*pack_acts)(const float* x, const ActKey& key, const ActRow& out);
  void (*widen)(DType dtype, const uint8_t* src, size_t n, float* dst);  // n a multiple of 16; scale dtypes, U8, I8
  // values[g][lane] *= factor[lane] for n groups.
  void (*scale_groups)(const float* factor, size_t n, float* values);
  void (*unpack)(const CodeSpec& spec, const uint8_t* codes, size_t k, uint8_t* panel);
  void (*dot)(const DotArgs& args);
  void (*unpack_fp8)(const uint8_t* codes, size_t k, float* panel);
  void (*fp8)(const Fp8Args& args);
};

const QuantKernels& scalar_quant_kernels();
#if defined(__x86_64__)
const QuantKernels& avx2_quant_kernels();
const QuantKernels& avx512_quant_kernels();
const QuantKernels& avx512_vnni_quant_kernels();
#endif

// The best list entry at or below `isa`.
const QuantKernels& quant_kernels(Isa isa);

}  // namespace fettle::kernels
