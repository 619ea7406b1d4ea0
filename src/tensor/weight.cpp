#include "tensor/weight.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "tensor/convert.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/fx3.h"
#include "tensor/input_transform.h"
#include "tensor/layout.h"

namespace fettle {
namespace {

// Scale and minimum of group g of a row, F32, in the multiplication order that ggml uses (super scale * scale).
struct GroupScale {
  float scale, min;
};

// Row views of the small parts, converted once.
struct RowParts {
  std::vector<float> scales, mins, super_scales, super_mins;
  const uint8_t* zeros = nullptr;

  static void load(const Tensor& t, int64_t row, std::vector<float>* out) {
    if (t.numel() == 0) return;
    const auto per_row = static_cast<size_t>(t.dim(1));
    out->resize(per_row);
    convert_to_f32(t.dtype(), t.bytes().data() + static_cast<size_t>(row) * per_row * dtype_bytes(t.dtype()), *out);
  }
  RowParts(const PackedWeight& w, int64_t row) {
    load(w.scales, row, &scales);
    load(w.mins, row, &mins);
    load(w.super_scales, row, &super_scales);
    load(w.super_mins, row, &super_mins);
    if (w.zero_points.numel() != 0) zeros = w.zero_points.data<uint8_t>() + row * w.groups();
  }
  GroupScale at(size_t g, size_t super) const {
    GroupScale s{scales[g], 0.0f};
    if (!super_scales.empty()) s.scale = super_scales[super] * s.scale;
    if (!super_mins.empty()) {
      s.min = -(super_mins[super] * mins[g]);
    } else if (!mins.empty()) {
      s.min = mins[g];
    }
    return s;
  }
};

// Values of codes [begin, end) of one row, before scales.
void code_values(const PackedWeight& w, const FormatInfo& info, int64_t row, size_t begin, size_t end, float zero,
                 float* out) {
  const auto cols = static_cast<size_t>(w.cols), r = static_cast<size_t>(row);
  const auto* bytes = reinterpret_cast<const uint8_t*>(w.codes.bytes().data());
  if (info.code_bits == 4) {
    const uint8_t* pairs = bytes + r * ceil_div<size_t>(cols, 2);
    for (size_t k = begin; k < end; ++k) {
      const auto code = static_cast<uint8_t>((pairs[k / 2] >> (4 * (k % 2))) & 15);
      out[k - begin] = info.kind == CodeKind::kTable16 ? info.table[code] : static_cast<float>(code) - zero;
    }
    return;
  }
  const uint8_t* codes = bytes + r * cols;
  for (size_t k = begin; k < end; ++k) {
    if (w.codes.dtype() == DType::kF8E4M3) {
      out[k - begin] = formats::e4m3_to_f32(codes[k]);
    } else if (w.codes.dtype() == DType::kI8) {
      out[k - begin] = static_cast<float>(static_cast<int8_t>(codes[k]));
    } else {
      out[k - begin] = static_cast<float>(codes[k]) - zero;
    }
  }
}

}  // namespace

size_t PackedWeight::bytes() const {
  return codes.nbytes() + scales.nbytes() + zero_points.nbytes() + mins.nbytes() + super_scales.nbytes() +
         super_mins.nbytes() + high_tables.nbytes() + exception_starts.nbytes() + exception_cols.nbytes() +
         exception_highs.nbytes() + input.bytes();
}

double PackedWeight::bits_per_weight() const {
  const double n = static_cast<double>(rows) * static_cast<double>(cols);
  return n > 0 ? 8.0 * static_cast<double>(bytes()) / n : 0.0;
}

size_t PackedWeight::file_bytes() const {
  if (format == Format::kInt2 || format == Format::kInt3) {  // 32-bit words along K, zero points along N
    const int64_t width = format == Format::kInt2 ? 2 : 3;
    const int64_t code_words = rows * ceil_div<int64_t>(cols * width, 32);
    const int64_t zero_words = zero_points.is_empty() ? 0 : groups() * ceil_div<int64_t>(rows * width, 32);
    return bytes() - codes.nbytes() - zero_points.nbytes() + static_cast<size_t>(4 * (code_words + zero_words));
  }
  const double bits = format_info(format).gguf_bits;
  if (bits == 0 || input.present()) return bytes();
  return static_cast<size_t>(std::llround(static_cast<double>(rows) * static_cast<double>(cols) * bits / 8.0));
}

double PackedWeight::file_bits_per_weight() const {
  const double bits = format_info(format).gguf_bits, n = static_cast<double>(rows) * static_cast<double>(cols);
  if (bits != 0 && !input.present()) return bits;
  return n > 0 ? 8.0 * static_cast<double>(file_bytes()) / n : 0.0;
}

void decode_stored_row(const PackedWeight& w, int64_t row, std::span<float> out) {
  FETTLE_CHECK(row >= 0 && row < w.rows);
  FETTLE_CHECK_EQ(out.size(), static_cast<size_t>(w.cols));
  const FormatInfo& info = format_info(w.format);
  if (info.kind == CodeKind::kDense) {
    const size_t stride = out.size() * dtype_bytes(w.codes.dtype());
    convert_to_f32(w.codes.dtype(), w.codes.bytes().data() + static_cast<size_t>(row) * stride, out);
    return;
  }
  if (info.kind == CodeKind::kBF16Planes) {
    std::vector<uint16_t> bits(out.size());
    formats::fx3_decode_row_bits(w, row, bits);
    for (size_t k = 0; k < out.size(); ++k) out[k] = formats::bf16_to_f32(bits[k]);
    return;
  }
  const RowParts parts(w, row);
  const bool has_min = !parts.mins.empty();
  const auto group = static_cast<size_t>(w.group_size);
  for (size_t g = 0; g * group < out.size(); ++g) {
    const size_t begin = g * group, end = std::min(begin + group, out.size());
    const GroupScale s = parts.at(g, begin / kSuperBlock);
    const float zero =
        parts.zeros != nullptr ? static_cast<float>(parts.zeros[g]) : static_cast<float>(info.code_offset);
    code_values(w, info, row, begin, end, zero, out.data() + begin);
    for (size_t k = begin; k < end; ++k) {
      float x = out[k] * s.scale;
      if (has_min) x += s.min;
      out[k] = w.tensor_scale * x;
    }
  }
}

void decode_row(const PackedWeight& w, int64_t row, std::span<float> out) {
  decode_stored_row(w, row, out);
  if (w.input.present()) undo_input_transform(w.input, out);
}

std::vector<float> decode(const PackedWeight& w) {
  check_packed(w);
  const auto cols = static_cast<size_t>(w.cols);
  std::vector<float> out(static_cast<size_t>(w.rows) * cols);
  for (int64_t r = 0; r < w.rows; ++r) decode_row(w, r, std::span(out).subspan(static_cast<size_t>(r) * cols, cols));
  return out;
}

PackedWeight dense_weight(const Tensor& t) {
  PackedWeight w;
  switch (t.dtype()) {
    case DType::kF32:
      w.format = Format::kF32;
      break;
    case DType::kF16:
      w.format = Format::kF16;
      break;
    case DType::kBF16:
      w.format = Format::kBF16;
      break;
    default:
      fail(ErrorCode::kInput, "dense weight: expected F32, F16 or BF16, found {}", t.describe());
  }
  if (t.rank() != 2) fail(ErrorCode::kInput, "dense weight: expected [N, K], found {}", t.describe());
  w.rows = t.dim(0);
  w.cols = t.dim(1);
  w.codes = t;
  return w;
}

}  // namespace fettle
