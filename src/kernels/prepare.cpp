#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "base/checked.h"
#include "kernels/prepared.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/fx3.h"

// From the canonical PackedWeight to the 16-row blocks of src/kernels/README.md.
namespace fettle::kernels {
namespace {

constexpr int64_t kSuperGroup = 256;  // k per super scale of the K-quants

// NF4 entries as integers: T[i] * factor rounded. 4095 * 16383 * 32 < 2^31, so the sum of 32 products with 15-bit
// activations fits; of the factors up to 4095 the one with the smallest worst rounding error is used.
struct IntegerTable {
  int factor;
  int values[16];
};
const IntegerTable& nf4_table() {
  static const IntegerTable table = [] {
    const float* values = format_info(Format::kNF4).table;
    IntegerTable best{};
    double best_error = 1.0;
    for (int factor = 2048; factor <= 4095; ++factor) {
      double error = 0.0;
      for (int i = 0; i < 16; ++i) {
        const double exact = static_cast<double>(values[i]) * factor;
        error = std::max(error, std::abs(std::nearbyint(exact) - exact) / factor);
      }
      if (error < best_error) {
        best_error = error;
        best.factor = factor;
      }
    }
    for (int i = 0; i < 16; ++i)
      best.values[i] = static_cast<int>(std::nearbyint(static_cast<double>(values[i]) * best.factor));
    return best;
  }();
  return table;
}

void set_words(CodeSpec* spec, const IntegerTable& table) {
  spec->form = CodeForm::kNibbleTable16;
  for (int i = 0; i < 16; ++i) {
    const auto word = static_cast<uint16_t>(table.values[i]);
    spec->table[i] = static_cast<uint8_t>(word & 255);
    spec->table_high[i] = static_cast<uint8_t>(word >> 8);
  }
}

// u8 table of factor * value + offset, which must be whole numbers.
void set_bytes(CodeSpec* spec, const float* values, float factor, int offset, int max_value) {
  spec->form = CodeForm::kNibbleTable;
  spec->offset = offset;
  spec->max_value = max_value;
  for (int i = 0; i < 16; ++i) spec->table[i] = static_cast<uint8_t>(static_cast<int>(values[i] * factor) + offset);
}

// What is added to an I8 code to make it unsigned.
int byte_offset(Format format) {
  if (format == Format::kQ5_0) return 16;
  return format == Format::kQ6_K ? 32 : 128;
}

// Code interpretation; returns the factor integer values carry.
float set_spec(const PackedWeight& w, const FormatInfo& info, CodeSpec* spec) {
  if (info.kind == CodeKind::kTable16) {
    switch (w.format) {
      case Format::kMxfp4:
      case Format::kNvfp4:
        set_bytes(spec, info.table, 2.0f, 12, 24);
        return 2.0f;  // E2M1: halves
      case Format::kIQ4_NL:
        set_bytes(spec, info.table, 1.0f, 127, 240);
        return 1.0f;
      default:
        set_words(spec, nf4_table());
        return static_cast<float>(nf4_table().factor);
    }
  }
  if (info.code_bits == 4) {
    spec->form = CodeForm::kNibble;
    spec->max_value = 15;
    spec->offset = info.code_offset;
    return 1.0f;
  }
  spec->form = CodeForm::kByte;
  if (w.codes.dtype() == DType::kI8) {
    spec->offset = byte_offset(w.format);
    spec->max_value = 2 * spec->offset - 1;
  } else {
    spec->offset = info.code_offset;
    spec->max_value = w.format == Format::kQ5_1 || w.format == Format::kQ5_K ? 31 : 255;
  }
  return 1.0f;
}

// Chooses how k maps to positions (see ActKey).
void set_geometry(const PackedWeight& w, PreparedData* p) {
  const auto cols = static_cast<size_t>(w.cols), group = static_cast<size_t>(w.group_size);
  if (p->layout == Layout::kFp8) {
    p->group = group;
    p->groups = static_cast<size_t>(w.groups());
    return;
  }
  const bool one_group = group >= cols;
  p->pads_groups = !one_group && group % 16 != 0;
  if (p->pads_groups) {
    p->group = round_up<size_t>(group, 32);
    p->step = 32;
    p->padded_cols = static_cast<size_t>(w.groups()) * p->group;
  } else {
    p->padded_cols = round_up<size_t>(cols, kActBlock);
    p->group = one_group ? p->padded_cols : group;
    p->step = p->group % 32 == 0 ? 32 : 16;
  }
  p->groups = ceil_div(p->padded_cols, p->group);
}

// n0..n7 (k order, n0 lowest) -> n0 n4 n1 n5 n2 n6 n3 n7: byte j holds k_j and k_(j+4).
uint32_t interleave_nibbles(uint32_t w) {
  w = (w & 0xFF0000FFu) | (w & 0x00FF0000u) >> 8 | (w & 0x0000FF00u) << 8;
  return (w & 0xF00FF00Fu) | (w & 0x0F000F00u) >> 4 | (w & 0x00F000F0u) << 4;
}

class Packer {
 public:
  Packer(const PackedWeight& w, PreparedData* p) : w_(w), p_(*p), four_bit_(format_info(w.format).code_bits == 4) {
    row_bytes_ = static_cast<size_t>(w.codes.nbytes()) / static_cast<size_t>(std::max<int64_t>(w.rows, 1));
    flip_ = w.codes.dtype() == DType::kI8 ? p->spec.offset : 0;
  }

  void pack_block(size_t block) {
    const size_t row0 = block * kLanes;
    const size_t rows = std::min(kLanes, static_cast<size_t>(w_.rows) - row0);
    uint8_t* codes = p_.codes.data() + block * p_.code_block_bytes();
    if (p_.layout == Layout::kFp8) {
      pack_fp8(row0, rows, codes);
    } else if (p_.pads_groups) {
      pack_elements(row0, rows, codes);
    } else if (four_bit_) {
      pack_nibbles(row0, rows, codes);
    } else {
      pack_bytes(row0, rows, codes);
    }
    pack_values(w_.scales, p_.groups, row0, rows,
                p_.scales.values.data() + block * p_.groups * kLanes * width(w_.scales));
    if (p_.scales.supers.size() > 0) pack_supers(w_.super_scales, block, rows, &p_.scales);
    if (p_.mins.present()) {
      pack_values(w_.mins, p_.groups, row0, rows, p_.mins.values.data() + block * p_.groups * kLanes * width(w_.mins));
      if (p_.mins.supers.size() > 0) pack_supers(w_.super_mins, block, rows, &p_.mins);
    }
    if (p_.zero_points.size() > 0)
      pack_values(w_.zero_points, p_.groups, row0, rows, p_.zero_points.data() + block * p_.groups * kLanes);
    check_scales(block, rows);
  }

 private:
  static size_t width(const Tensor& t) { return dtype_bytes(t.dtype()); }
  const uint8_t* row(size_t r) const {
    return reinterpret_cast<const uint8_t*>(w_.codes.bytes().data()) + r * row_bytes_;
  }

  // Four bytes of a row from `offset` on, zero past its end.
  uint32_t word(const uint8_t* p, size_t offset) const {
    uint32_t v = 0;
    if (offset < row_bytes_) std::memcpy(&v, p + offset, std::min<size_t>(4, row_bytes_ - offset));
    return v;
  }

  void pack_nibbles(size_t row0, size_t rows, uint8_t* out) const {
    const size_t whole = row_bytes_ / 4, units = p_.padded_cols / 8;
    for (size_t u = 0; u < units; ++u, out += 64) {
      for (size_t r = 0; r < rows; ++r) {
        uint32_t v;
        if (u < whole) {
          std::memcpy(&v, row(row0 + r) + 4 * u, 4);
        } else {
          v = word(row(row0 + r), 4 * u);
        }
        v = interleave_nibbles(v);
        std::memcpy(out + 4 * r, &v, 4);
      }
      std::memset(out + 4 * rows, 0, 64 - 4 * rows);
    }
  }

  void pack_bytes(size_t row0, size_t rows, uint8_t* out) const {
    const size_t whole = row_bytes_ / 4, units = p_.padded_cols / 4;
    const uint32_t flip = static_cast<uint32_t>(flip_) * 0x01010101u;
    for (size_t u = 0; u < units; ++u, out += 64) {
      for (size_t r = 0; r < rows; ++r) {
        uint32_t v;
        if (u < whole) {
          std::memcpy(&v, row(row0 + r) + 4 * u, 4);
        } else {
          v = word(row(row0 + r), 4 * u);
        }
        v = ((v & 0x7F7F7F7Fu) + (flip & 0x7F7F7F7Fu)) ^ ((v ^ flip) & 0x80808080u);  // bytewise v + flip
        std::memcpy(out + 4 * r, &v, 4);
      }
      std::memset(out + 4 * rows, 0, 64 - 4 * rows);
    }
  }

  // Groups whose size is not a multiple of 16: element by element.
  void pack_elements(size_t row0, size_t rows, uint8_t* out) const {
    std::memset(out, 0, p_.code_block_bytes());
    const auto cols = static_cast<size_t>(w_.cols), group = static_cast<size_t>(w_.group_size);
    for (size_t r = 0; r < rows; ++r) {
      const uint8_t* src = row(row0 + r);
      for (size_t k = 0; k < cols; ++k) {
        const size_t pos = k / group * p_.group + k % group;
        if (four_bit_) {
          const int code = src[k / 2] >> (4 * (k % 2)) & 15;
          out[pos / 8 * 64 + 4 * r + pos % 4] |= static_cast<uint8_t>(pos % 8 < 4 ? code : code << 4);
        } else {
          out[pos / 4 * 64 + 4 * r + pos % 4] = static_cast<uint8_t>(src[k] + flip_);
        }
      }
    }
  }

  void pack_fp8(size_t row0, size_t rows, uint8_t* out) const {
    const auto cols = static_cast<size_t>(w_.cols);
    std::memset(out, 0, p_.code_block_bytes());
    for (size_t r = 0; r < rows; ++r) {
      const uint8_t* src = row(row0 + r);
      bool nan = false;
      for (size_t k = 0; k < cols; ++k) {
        out[k * kLanes + r] = src[k];
        nan |= (src[k] & 0x7F) == 0x7F;
      }
      if (nan) fail(ErrorCode::kNumeric, "{} weight: row {}: expected finite codes, found NaN", name(), row0 + r);
    }
  }

  void pack_values(const Tensor& t, size_t groups, size_t row0, size_t rows, uint8_t* out) const {
    const size_t size = width(t), per_row = static_cast<size_t>(t.dim(1));
    std::memset(out, 0, groups * kLanes * size);
    const auto* src = reinterpret_cast<const uint8_t*>(t.bytes().data());
    for (size_t r = 0; r < rows; ++r) {
      const uint8_t* from = src + (row0 + r) * per_row * size;
      uint8_t* to = out + r * size;
      for (size_t g = 0; g < per_row; ++g) std::memcpy(to + g * kLanes * size, from + g * size, size);
    }
  }

  void pack_supers(const Tensor& t, size_t block, size_t rows, GroupValues* values) const {
    const auto per_row = static_cast<size_t>(t.dim(1));
    pack_values(t, per_row, block * kLanes, rows, values->supers.data() + block * per_row * kLanes * width(t));
  }

  // NaN scales are refused; negative E4M3 scales are moved into the sign bits of the E2M1 codes, which is exact.
  void check_scales(size_t block, size_t rows) {
    if (p_.scales.dtype != DType::kF8E8M0 && p_.scales.dtype != DType::kF8E4M3) return;
    uint8_t* scales = p_.scales.values.data() + block * p_.groups * kLanes;
    const bool e8m0 = p_.scales.dtype == DType::kF8E8M0;
    for (size_t i = 0; i < p_.groups * kLanes; ++i) {
      const size_t lane = i % kLanes, group = i / kLanes;
      if (lane >= rows) continue;
      if (e8m0 ? scales[i] == formats::kE8M0Nan : (scales[i] & 0x7F) == 0x7F)
        fail(ErrorCode::kNumeric, "{} weight: row {}, group {}: expected a finite scale, found NaN", name(),
             block * kLanes + lane, group);
      if (!e8m0 && (scales[i] & 0x80) != 0) {
        scales[i] &= 0x7F;
        flip_signs(block, lane, group);
      }
    }
  }

  void flip_signs(size_t block, size_t lane, size_t group) {
    uint8_t* codes = p_.codes.data() + block * p_.code_block_bytes();
    const size_t end = std::min((group + 1) * p_.group, p_.padded_cols);
    for (size_t pos = group * p_.group; pos < end; ++pos)
      codes[pos / 8 * 64 + 4 * lane + pos % 4] ^= static_cast<uint8_t>(pos % 8 < 4 ? 0x08 : 0x80);
  }

  std::string_view name() const { return format_info(w_.format).name; }

  const PackedWeight& w_;
  PreparedData& p_;
  bool four_bit_;
  size_t row_bytes_ = 0;
  int flip_ = 0;  // added to every code byte
};

void allocate(const PackedWeight& w, PreparedData* p) {
  const size_t values = p->row_blocks * p->groups * kLanes;
  p->codes.resize(p->row_blocks * p->code_block_bytes());
  const auto make = [&](const Tensor& t, const Tensor& super, GroupValues* v) {
    if (t.numel() == 0) return;
    v->dtype = t.dtype();
    v->values.resize(values * dtype_bytes(t.dtype()));
    if (super.numel() != 0)
      v->supers.resize(p->row_blocks * static_cast<size_t>(super.dim(1)) * kLanes * dtype_bytes(super.dtype()));
  };
  make(w.scales, w.super_scales, &p->scales);
  make(w.mins, w.super_mins, &p->mins);
  if (w.zero_points.numel() != 0) p->zero_points.resize(values);
}

}  // namespace

size_t PreparedData::code_block_bytes() const {
  if (layout == Layout::kFp8) return static_cast<size_t>(cols) * kLanes;
  return spec.form == CodeForm::kByte ? padded_cols * kLanes : padded_cols * kLanes / 2;
}

PreparedWeight prepare(const PackedWeight& w, ThreadPool& pool) {
  check_packed(w);
  const FormatInfo& info = format_info(w.format);
  auto p = std::make_shared<PreparedData>();
  p->format = w.format;
  p->rows = w.rows;
  p->cols = w.cols;
  p->tensor_scale = w.tensor_scale;
  p->input = w.input;
  p->out_scale = w.tensor_scale;
  p->row_blocks = ceil_div(static_cast<size_t>(w.rows), kLanes);
  if (info.kind == CodeKind::kDense) {
    p->dense = w.codes;
    return PreparedWeight(std::move(p));
  }
  if (info.kind == CodeKind::kBF16Planes) {
    p->layout = Layout::kFx3;
    p->fx3 = w;
    return PreparedWeight(std::move(p));
  }
  p->layout = info.kind == CodeKind::kE4M3 ? Layout::kFp8 : Layout::kQuant;
  p->group_size = w.group_size;
  p->code_dtype = w.codes.dtype();
  float factor = 1.0f;
  if (p->layout == Layout::kQuant) factor = set_spec(w, info, &p->spec);
  p->out_scale = w.tensor_scale / factor;
  PackedWeight scaled;  // out_scale divides mins too
  if (factor != 1.0f && !w.mins.is_empty()) {
    std::vector<float> mins = w.mins.to_f32();
    for (float& m : mins) m *= factor;
    scaled = w;
    scaled.mins = Tensor::from<float>(mins, w.mins.shape());
  }
  const PackedWeight& source = scaled.rows > 0 ? scaled : w;
  set_geometry(source, p.get());
  allocate(source, p.get());
  Packer packer(source, p.get());
  auto body = [&](size_t begin, size_t end) {
    for (size_t b = begin; b < end; ++b) packer.pack_block(b);
  };
  pool.parallel_chunks(p->row_blocks, 4, std::ref(body));
  return PreparedWeight(std::move(p));
}

int64_t PreparedWeight::rows() const { return data_ ? data_->rows : 0; }
int64_t PreparedWeight::cols() const { return data_ ? data_->cols : 0; }
Format PreparedWeight::format() const { return data_ ? data_->format : Format::kF32; }
bool PreparedWeight::zero_copy() const {
  if (!data_) return false;
  return data_->layout == Layout::kDense || (data_->layout == Layout::kFx3 && !data_->fx3.codes.owned());
}

size_t PreparedWeight::bytes() const {
  if (!data_) return 0;
  const PreparedData& p = *data_;
  return p.dense.nbytes() + p.fx3.bytes() + p.codes.size() + p.scales.values.size() + p.scales.supers.size() +
         p.mins.values.size() + p.mins.supers.size() + p.zero_points.size() + p.input.bytes();
}

}  // namespace fettle::kernels
