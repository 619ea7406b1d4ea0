#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint.h"
#include "io/quant_config.h"
#include "tensor/weight.h"

// Shared by the layout readers (layout_*.cpp): named, checked access to the tensors of one linear module.
namespace fettle::io {

// The tensors of one module of a checkpoint. All reads check dtype and shape and throw kInput naming file and tensor.
class Parts {
 public:
  Parts(const TensorSource& source, std::string module) : source_(source), module_(std::move(module)) {}

  const std::string& module() const { return module_; }
  const TensorSource& source() const { return source_; }
  std::string name(std::string_view suffix) const { return module_ + std::string(suffix); }
  bool has(std::string_view suffix) const { return source_.has(name(suffix)); }

  // One of the dtypes with one of the shapes, element-aligned (copied when the file is not).
  Tensor need(std::string_view suffix, std::initializer_list<DType> dtypes,
              std::initializer_list<std::vector<int64_t>> shapes) const;
  // A single finite, non-zero F32 (any float dtype): shape [] or [1].
  float scalar(std::string_view suffix) const;
  [[noreturn]] void refuse(std::string_view suffix, std::string_view problem) const;

 private:
  const TensorSource& source_;
  std::string module_;
};

// Scales of float dtype as the canonical layout wants them.
struct RowScales {
  Tensor scales;  // [N, G], the stored dtype
  int64_t group_size = 0;
};

// Reads `suffix` by the scheme's strategy: tensor [] or [1], channel [N] or [N,1], group [N, ceil(K/g)], block
// [ceil(N/br), ceil(K/bc)]; per-tensor and block scales are repeated per row. Refuses non-finite scales.
RowScales read_row_scales(const Parts& parts, std::string_view suffix, const WeightScheme& scheme, int64_t rows,
                          int64_t cols);

// Refuses NaN, infinity and NaN codes (E4M3 0x7F/0xFF, E8M0 0xFF), naming tensor and index. scales: [rows, groups] or
// fewer dimensions, any float dtype.
void check_finite(const Parts& parts, std::string_view suffix, const Tensor& scales);

// The same bytes under another dtype of the same width (U8 as F8_E8M0, ...), optionally reshaped.
Tensor reinterpret(const Tensor& t, DType dtype, std::vector<int64_t> shape);

// Owned [cols, rows] from [rows, cols], elements of 1, 2 or 4 bytes.
Tensor transposed(const Tensor& t);

// Turns 8-bit or narrower unsigned codes (one per byte, value = code - zero) into int2, int3, int4 or int8.
//   codes: U8 [N,K]; zeros: U8 [N,G] or empty for symmetric codes with offset 2^(bits-1)
PackedWeight integer_weight(int bits, Tensor codes, Tensor zeros, RowScales scales);

// The same for 4-bit codes that are in canonical pairs already. codes: N * K / 2 bytes of any dtype, K even.
PackedWeight int4_weight(const Tensor& codes, Tensor zeros, RowScales scales, int64_t rows, int64_t cols);

// Whether a g_idx tensor (I32 [K], group of every column) differs from column / group_size. All -1 means unused.
// Throws kInput for a group out of range.
bool permutes_groups(const Parts& parts, std::string_view suffix, int64_t cols, const RowScales& scales);

// Weights whose groups are scattered over the columns (act-order) have no packed form here: they become dense F32,
// which is said in a warning. Arguments as in integer_weight.
PackedWeight indexed_weight(const Parts& parts, std::string_view suffix, int bits, const Tensor& codes,
                            const Tensor& zeros, const RowScales& scales);

// Layout readers, one per checkpoint dialect. rows and cols are what the model expects.
PackedWeight read_dense(const Parts& parts, int64_t rows, int64_t cols);
PackedWeight read_compressed_tensors(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols);
PackedWeight read_fp_quant(const Parts& parts, const WeightScheme& scheme, int64_t rows,
                           int64_t cols);  // rotated space
PackedWeight read_modelopt(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols);
PackedWeight read_awq(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols);
PackedWeight read_gptq(const Parts& parts, const WeightScheme& scheme, bool v2, int64_t rows, int64_t cols);
PackedWeight read_fp8(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols);
PackedWeight read_fx3(const Parts& parts, int64_t rows, int64_t cols);
PackedWeight read_sinq(const Parts& parts, const SinqLeaf& leaf, int64_t rows, int64_t cols);
PackedWeight read_bitsandbytes(const Parts& parts, const WeightScheme& scheme, int64_t rows, int64_t cols);

}  // namespace fettle::io
