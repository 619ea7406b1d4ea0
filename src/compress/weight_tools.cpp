#include "compress/weight_tools.h"

#include <cstring>
#include <numeric>

#include "tensor/convert.h"

namespace fettle::compress {

std::vector<int64_t> to_adjacent_pairs(int64_t heads, int64_t head_dim) {
  std::vector<int64_t> rows;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t j = 0; j < head_dim / 2; ++j)
      for (int64_t s = 0; s < 2; ++s) rows.push_back(h * head_dim + s * (head_dim / 2) + j);
  return rows;
}

std::vector<int64_t> to_split_halves(int64_t heads, int64_t head_dim) {
  const std::vector<int64_t> forward = to_adjacent_pairs(heads, head_dim);
  std::vector<int64_t> inverse(forward.size());
  for (size_t i = 0; i < forward.size(); ++i) inverse[static_cast<size_t>(forward[i])] = static_cast<int64_t>(i);
  return inverse;
}

PackedWeight permute_rows(const PackedWeight& w, std::span<const int64_t> rows) {
  FETTLE_CHECK_EQ(static_cast<int64_t>(rows.size()), w.rows);
  const auto move = [&](const Tensor& part) {
    if (part.is_empty()) return part;
    Tensor out = Tensor::empty(part.dtype(), part.shape());
    const size_t stride = part.nbytes() / rows.size();
    auto* to = const_cast<std::byte*>(out.bytes().data());  // owned and not yet shared
    for (size_t i = 0; i < rows.size(); ++i)
      std::memcpy(to + i * stride, part.bytes().data() + static_cast<size_t>(rows[i]) * stride, stride);
    return out;
  };
  PackedWeight out = w;
  out.codes = move(w.codes);
  out.scales = move(w.scales);
  out.zero_points = move(w.zero_points);
  out.mins = move(w.mins);
  out.super_scales = move(w.super_scales);
  out.super_mins = move(w.super_mins);
  return out;
}

std::vector<float> decode_parallel(const PackedWeight& w, ThreadPool& pool) {
  std::vector<float> values(static_cast<size_t>(w.rows * w.cols));
  const auto cols = static_cast<size_t>(w.cols);
  pool.parallel_chunks(static_cast<size_t>(w.rows), 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r)
      decode_row(w, static_cast<int64_t>(r), std::span(values).subspan(r * cols, cols));
  });
  return values;
}

namespace {

constexpr int64_t kBlock = 32;  // columns of a Q8_0 or Q4_0 block

// Scales of whole groups as one F16 per block of 32; nullopt when a scale is no F16 number.
std::optional<Tensor> block_scales(const PackedWeight& w) {
  if (w.group_size % kBlock != 0 || w.cols % kBlock != 0) return std::nullopt;
  std::vector<float> scales = w.scales.to_f32();
  for (float& s : scales) s *= w.tensor_scale;
  std::vector<float> rounded(scales.size());
  std::vector<std::byte> half(scales.size() * 2);
  convert_from_f32(scales, DType::kF16, half.data());
  convert_to_f32(DType::kF16, half.data(), rounded);
  if (rounded != scales) return std::nullopt;
  const int64_t groups = w.groups(), blocks = w.cols / kBlock, per_group = w.group_size / kBlock;
  Tensor out = Tensor::empty(DType::kF16, {w.rows, blocks});
  auto* to = out.mutable_data<uint16_t>();
  for (int64_t n = 0; n < w.rows; ++n)
    for (int64_t b = 0; b < blocks; ++b)
      std::memcpy(to + n * blocks + b, half.data() + 2 * (n * groups + b / per_group), 2);
  return out;
}

}  // namespace

std::optional<PackedWeight> exact_gguf_form(const PackedWeight& w) {
  if (w.input.present() || !w.mins.is_empty()) return std::nullopt;
  if (w.format == Format::kMxfp4) return w.tensor_scale == 1.0f ? std::optional(w) : std::nullopt;
  if (w.format == Format::kNvfp4) return w.cols % 64 == 0 ? std::optional(w) : std::nullopt;
  const bool integer = w.format == Format::kInt4 || w.format == Format::kInt8;
  if (!integer || !w.zero_points.is_empty()) return std::nullopt;
  auto scales = block_scales(w);
  if (!scales) return std::nullopt;
  PackedWeight out = w;
  out.format = w.format == Format::kInt4 ? Format::kQ4_0 : Format::kQ8_0;
  out.group_size = kBlock;
  out.scales = std::move(*scales);
  out.tensor_scale = 1.0f;
  return out;
}

}  // namespace fettle::compress
