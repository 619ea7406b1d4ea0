#include "tensor/formats/gguf_blocks.h"

#include <array>

#include "base/checked.h"
#include "tensor/formats/codecs.h"
#include "tensor/formats/dense.h"
#include "tensor/formats/encode_common.h"
#include "tensor/formats/gguf_codec.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

int bad_mxfp4(const uint8_t* b) { return b[0] == kE8M0Nan ? 0 : -1; }
int bad_nvfp4(const uint8_t* b) {
  for (int g = 0; g < 4; ++g)
    if (b[g] == 0xFF) return g;
  return -1;
}

using F = Format;
constexpr GgufCodec kCodecs[] = {
    {{ggml::kQ4_0, "q4_0", F::kQ4_0, 32, 18},
     unpack_nibbles_f16,
     pack_nibbles_f16,
     decode_q4_0,
     quantise_q4_0,
     nullptr},
    {{ggml::kQ4_1, "q4_1", F::kQ4_1, 32, 20}, unpack_q4_1, pack_q4_1, decode_q4_1, quantise_q4_1, nullptr},
    {{ggml::kQ5_0, "q5_0", F::kQ5_0, 32, 22}, unpack_q5_0, pack_q5_0, decode_q5_0, quantise_q5_0, nullptr},
    {{ggml::kQ5_1, "q5_1", F::kQ5_1, 32, 24}, unpack_q5_1, pack_q5_1, decode_q5_1, quantise_q5_1, nullptr},
    {{ggml::kQ8_0, "q8_0", F::kQ8_0, 32, 34}, unpack_q8_0, pack_q8_0, decode_q8_0, quantise_q8_0, nullptr},
    {{ggml::kQ2_K, "q2_K", F::kQ2_K, 256, 84}, unpack_q2_k, pack_q2_k, decode_q2_k, quantise_q2_k, nullptr},
    {{ggml::kQ3_K, "q3_K", F::kQ3_K, 256, 110}, unpack_q3_k, pack_q3_k, decode_q3_k, quantise_q3_k, nullptr},
    {{ggml::kQ4_K, "q4_K", F::kQ4_K, 256, 144}, unpack_q4_k, pack_q4_k, decode_q4_k, quantise_q4_k, nullptr},
    {{ggml::kQ5_K, "q5_K", F::kQ5_K, 256, 176}, unpack_q5_k, pack_q5_k, decode_q5_k, quantise_q5_k, nullptr},
    {{ggml::kQ6_K, "q6_K", F::kQ6_K, 256, 210}, unpack_q6_k, pack_q6_k, decode_q6_k, quantise_q6_k, nullptr},
    {{ggml::kIQ4_NL, "iq4_nl", F::kIQ4_NL, 32, 18},
     unpack_nibbles_f16,
     pack_nibbles_f16,
     decode_iq4_nl,
     quantise_iq4_nl,
     nullptr},
    {{ggml::kMxfp4, "mxfp4", F::kMxfp4, 32, 17}, unpack_mxfp4, pack_mxfp4, decode_mxfp4, quantise_mxfp4, bad_mxfp4},
    {{ggml::kNvfp4, "nvfp4", F::kNvfp4, 64, 36}, unpack_nvfp4, pack_nvfp4, decode_nvfp4, quantise_nvfp4, bad_nvfp4},
    {{ggml::kQ1_0, "q1_0", F::kQ1_0, 128, 18}, unpack_q1_0, pack_q1_0, decode_q1_0, quantise_q1_0, nullptr},
    {{ggml::kQ2_0, "q2_0", F::kQ2_0, 64, 18}, unpack_q2_0, pack_q2_0, decode_q2_0, quantise_q2_0, nullptr},
};

constexpr GgufBlock kDense[] = {
    {ggml::kF32, "f32", F::kF32, 1, 4}, {ggml::kF16, "f16", F::kF16, 1, 2}, {ggml::kBF16, "bf16", F::kBF16, 1, 2}};

constexpr auto kBlocks = [] {
  std::array<GgufBlock, std::size(kDense) + std::size(kCodecs)> all{};
  size_t n = 0;
  for (const GgufBlock& b : kDense) all[n++] = b;
  for (const GgufCodec& c : kCodecs) all[n++] = c.block;
  return all;
}();

const GgufCodec* find_codec(Format format) {
  for (const GgufCodec& c : kCodecs)
    if (c.block.format == format) return &c;
  return nullptr;
}

const GgufBlock& block_of_type(uint32_t ggml_type) {
  const GgufBlock* block = find_gguf_block(ggml_type);
  if (block == nullptr) fail(ErrorCode::kInput, "ggml type {}: cannot be held as a weight", ggml_type);
  return *block;
}

// Bytes of one row; kInput when cols is no multiple of the block.
size_t row_bytes(const GgufBlock& block, int64_t cols) {
  if (cols <= 0 || cols % block.elements != 0)
    fail(ErrorCode::kInput, "{}: {} columns: expected a positive multiple of {}", block.name, cols, block.elements);
  return static_cast<size_t>(cols) / block.elements * block.bytes;
}

const uint8_t* bytes_of(const Tensor& t) {
  return t.is_empty() ? nullptr : reinterpret_cast<const uint8_t*>(t.bytes().data());
}

// Rows of the parts; Byte is uint8_t for writing and const uint8_t for reading.
template <typename Byte>
struct Rows {
  GgufRow<Byte> first;
  size_t codes, scales, mins, supers;  // bytes per row

  GgufRow<Byte> row(size_t r) const {
    const auto at = [r](Byte* p, size_t stride) { return p == nullptr ? nullptr : p + r * stride; };
    return {at(first.codes, codes), at(first.scales, scales), at(first.mins, mins), at(first.super_scales, supers),
            at(first.super_mins, supers)};
  }
};

size_t stride_of(const Tensor& t) { return t.is_empty() ? 0 : t.nbytes() / static_cast<size_t>(t.dim(0)); }

template <typename Byte>
Rows<Byte> rows_of(const PackedWeight& w, const GgufRow<Byte>& first) {
  return {first, stride_of(w.codes), stride_of(w.scales), stride_of(w.mins), stride_of(w.super_scales)};
}

void check_scales(const GgufCodec& codec, size_t row, const uint8_t* blocks, size_t n) {
  for (size_t i = 0; i < n; ++i)
    if (const int g = codec.bad_scale(blocks + i * codec.block.bytes); g >= 0) {
      const size_t groups = codec.block.elements / static_cast<size_t>(format_info(codec.block.format).default_group);
      fail(ErrorCode::kInput, "{}: row {}, group {}: scale byte 0xFF is no number", codec.block.name, row,
           i * groups + static_cast<size_t>(g));
    }
}

PackedWeight copy_dense(const GgufBlock& block, int64_t rows, int64_t cols, std::span<const std::byte> bytes) {
  const DType type = block.format == F::kF32 ? DType::kF32 : block.format == F::kF16 ? DType::kF16 : DType::kBF16;
  return dense_weight(Tensor::borrow(type, {rows, cols}, bytes, nullptr).copy());
}

}  // namespace

std::span<const GgufBlock> gguf_blocks() { return kBlocks; }

const GgufBlock* find_gguf_block(uint32_t ggml_type) {
  for (const GgufBlock& b : kBlocks)
    if (b.ggml_type == ggml_type) return &b;
  return nullptr;
}

const GgufBlock* find_gguf_block(Format format) {
  for (const GgufBlock& b : kBlocks)
    if (b.format == format) return &b;
  return nullptr;
}

PackedWeight from_gguf_blocks(uint32_t ggml_type, int64_t rows, int64_t cols, std::span<const std::byte> bytes,
                              ThreadPool* pool) {
  const GgufBlock& block = block_of_type(ggml_type);
  const size_t stride = row_bytes(block, cols);
  uint64_t total = 0;
  if (rows <= 0 || !checked_mul(static_cast<uint64_t>(rows), stride, &total) || total != bytes.size())
    fail(ErrorCode::kInput, "{} [{}, {}]: expected {} rows of {} bytes, found {} bytes", block.name, rows, cols, rows,
         stride, bytes.size());
  const GgufCodec* codec = find_codec(block.format);
  if (codec == nullptr) return copy_dense(block, rows, cols, bytes);

  PackedWeight w = allocate_packed(block.format, rows, cols, {});
  const auto out = rows_of<uint8_t>(w, {part_bytes(w.codes), part_bytes(w.scales), part_bytes(w.mins),
                                        part_bytes(w.super_scales), part_bytes(w.super_mins)});
  const auto* blocks = reinterpret_cast<const uint8_t*>(bytes.data());
  const size_t n = static_cast<size_t>(cols) / block.elements;
  for_rows(static_cast<size_t>(rows), pool, [&](size_t r) {
    if (codec->bad_scale != nullptr) check_scales(*codec, r, blocks + r * stride, n);
    codec->unpack(blocks + r * stride, n, out.row(r));
  });
  return w;
}

std::vector<std::byte> to_gguf_blocks(const PackedWeight& w, ThreadPool* pool) {
  check_packed(w);
  const GgufBlock* block = find_gguf_block(w.format);
  if (block == nullptr) fail(ErrorCode::kInput, "format {}: has no GGUF block type", format_info(w.format).name);
  const size_t stride = row_bytes(*block, w.cols);
  const GgufCodec* codec = find_codec(w.format);
  if (codec == nullptr) return {w.codes.bytes().begin(), w.codes.bytes().end()};
  if (w.format == F::kNvfp4)
    for (int64_t i = 0; i < w.scales.numel(); ++i)
      if (const uint8_t c = w.scales.data<uint8_t>()[i]; c > 0x7E)
        fail(ErrorCode::kInput, "nvfp4: row {}, group {}: scale code {:#x}: expected a positive number", i / w.groups(),
             i % w.groups(), c);

  std::vector<std::byte> bytes(static_cast<size_t>(w.rows) * stride);
  const auto in = rows_of<const uint8_t>(
      w, {bytes_of(w.codes), bytes_of(w.scales), bytes_of(w.mins), bytes_of(w.super_scales), bytes_of(w.super_mins)});
  auto* blocks = reinterpret_cast<uint8_t*>(bytes.data());
  const size_t n = static_cast<size_t>(w.cols) / block->elements;
  for_rows(static_cast<size_t>(w.rows), pool, [&](size_t r) { codec->pack(in.row(r), n, blocks + r * stride); });
  return bytes;
}

void decode_gguf_row(uint32_t ggml_type, const std::byte* blocks, std::span<float> out) {
  const GgufBlock& block = block_of_type(ggml_type);
  const size_t stride = row_bytes(block, static_cast<int64_t>(out.size()));
  const GgufCodec* codec = find_codec(block.format);
  if (codec == nullptr) {
    const PackedWeight row = copy_dense(block, 1, static_cast<int64_t>(out.size()), {blocks, stride});
    return decode_row(row, 0, out);
  }
  const auto* b = reinterpret_cast<const uint8_t*>(blocks);
  for (size_t k = 0; k < out.size(); k += block.elements, b += block.bytes) codec->decode(b, out.data() + k);
}

std::vector<std::byte> quantise_gguf(uint32_t ggml_type, MatView<const float> w, ThreadPool* pool) {
  const GgufBlock& block = block_of_type(ggml_type);
  const size_t stride = row_bytes(block, static_cast<int64_t>(w.cols));
  const GgufCodec* codec = find_codec(block.format);
  if (codec == nullptr) return to_gguf_blocks(format_info(block.format).encode_pool(w, {}, pool), pool);
  check_weights(block.name, w, pool);
  std::vector<std::byte> bytes(w.rows * stride);
  auto* blocks = reinterpret_cast<uint8_t*>(bytes.data());
  for_rows(w.rows, pool, [&](size_t r) {
    uint8_t* b = blocks + r * stride;
    for (size_t k = 0; k < w.cols; k += block.elements, b += block.bytes) codec->quantise(w.row(r) + k, b);
  });
  return bytes;
}

PackedWeight encode_gguf(uint32_t ggml_type, MatView<const float> w, ThreadPool* pool) {
  const std::vector<std::byte> bytes = quantise_gguf(ggml_type, w, pool);
  return from_gguf_blocks(ggml_type, static_cast<int64_t>(w.rows), static_cast<int64_t>(w.cols), bytes, pool);
}

}  // namespace fettle::formats
