#include "tensor/formats/fx3.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "tensor/convert.h"
#include "tensor/formats/dense.h"
#include "tensor/formats/encode_common.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

// Row-major BF16 words, possibly unaligned.
struct Words {
  const std::byte* bytes;
  size_t cols;

  uint16_t at(size_t row, size_t col) const {
    uint16_t u;
    std::memcpy(&u, bytes + 2 * (row * cols + col), sizeof u);
    return u;
  }
};

constexpr uint8_t kNone = 0xFF;

// Index of every high byte, kNone for those outside the table.
using Indices = std::array<uint8_t, 256>;

// The most frequent high bytes of rows [begin, end), the lower one first among equals; unused entries stay 0.
Indices choose_table(const Words& w, size_t begin, size_t end, uint8_t* table) {
  std::array<size_t, 256> counts{};
  for (size_t r = begin; r < end; ++r)
    for (size_t k = 0; k < w.cols; ++k) ++counts[w.at(r, k) >> 8];
  std::array<uint8_t, 256> order;
  std::iota(order.begin(), order.end(), uint8_t{0});
  std::stable_sort(order.begin(), order.end(), [&](uint8_t a, uint8_t b) { return counts[a] > counts[b]; });
  Indices indices;
  indices.fill(kNone);
  for (size_t i = 0; i < kFx3TableSize && counts[order[i]] > 0; ++i) {
    table[i] = order[i];
    indices[order[i]] = static_cast<uint8_t>(i);
  }
  return indices;
}

Indices indices_of(const uint8_t* table) {
  Indices indices;
  indices.fill(kNone);
  for (size_t i = kFx3TableSize; i-- > 0;) indices[table[i]] = static_cast<uint8_t>(i);
  return indices;
}

void pack_tile(const Words& w, size_t row, size_t col, const Indices& indices, uint8_t* tile) {
  uint8_t index[kFx3Tile];
  uint8_t* low = tile + kFx3IndexBytes;
  for (size_t j = 0; j < kFx3Tile; ++j) {
    const size_t k = col + fx3_weight_of(j);
    const uint16_t u = k < w.cols ? w.at(row, k) : uint16_t{0};
    const uint8_t i = k < w.cols ? indices[u >> 8] : uint8_t{0};
    low[j] = static_cast<uint8_t>(u);
    index[j] = i == kNone ? uint8_t{0} : i;
  }
  for (size_t b = 0; b < kFx3IndexBytes; ++b) tile[b] = static_cast<uint8_t>(index[b] | index[kFx3IndexBytes + b] << 4);
}

const uint8_t* row_tiles(const PackedWeight& w, size_t row) {
  return w.codes.data<uint8_t>() + row * static_cast<size_t>(w.codes.dim(1));
}

PackedWeight empty_fx3(int64_t rows, int64_t cols) {
  PackedWeight w;
  w.format = Format::kFx3;
  w.rows = rows;
  w.cols = cols;
  const auto tiles = static_cast<int64_t>(fx3_tiles(static_cast<size_t>(cols)));
  const auto tables = static_cast<int64_t>(fx3_tables(static_cast<size_t>(rows)));
  w.codes = Tensor::empty(DType::kU8, {rows, tiles * static_cast<int64_t>(kFx3TileBytes)});
  w.high_tables = Tensor::zeros(DType::kU8, {tables, static_cast<int64_t>(kFx3TableSize)});
  w.exception_starts = Tensor::zeros(DType::kU32, {rows + 1});
  return w;
}

// Codes, tables and, in exception_starts[r + 1], the number of exceptions of row r.
void pack_rows(const Words& words, PackedWeight* w, ThreadPool* pool) {
  const auto rows = static_cast<size_t>(w->rows);
  const size_t tiles = fx3_tiles(words.cols);
  uint8_t* codes = part_bytes(w->codes);
  uint8_t* tables = part_bytes(w->high_tables);
  auto* counts = w->exception_starts.mutable_data<uint32_t>() + 1;
  for_rows(fx3_tables(rows), pool, [&](size_t g) {
    const size_t begin = g * kFx3TableRows, end = std::min(rows, begin + kFx3TableRows);
    const Indices indices = choose_table(words, begin, end, tables + g * kFx3TableSize);
    for (size_t r = begin; r < end; ++r) {
      for (size_t i = 0; i < tiles; ++i)
        pack_tile(words, r, i * kFx3Tile, indices, codes + (r * tiles + i) * kFx3TileBytes);
      for (size_t k = 0; k < words.cols; ++k) counts[r] += indices[words.at(r, k) >> 8] == kNone ? 1 : 0;
    }
  });
}

}  // namespace

Fx3Exceptions Fx3Exceptions::within(size_t begin, size_t end) const {
  const auto at = [&](size_t col) {
    return static_cast<size_t>(std::lower_bound(cols.begin(), cols.end(), col) - cols.begin());
  };
  const size_t first = at(begin), count = at(end) - first;
  return {cols.subspan(first, count), highs.subspan(first, count)};
}

Fx3Exceptions fx3_exceptions(const PackedWeight& w, size_t row) {
  const uint32_t* starts = w.exception_starts.data<uint32_t>() + row;
  const size_t count = starts[1] - starts[0];
  if (count == 0) return {};
  return {{w.exception_cols.data<uint32_t>() + starts[0], count},
          {w.exception_highs.data<uint8_t>() + starts[0], count}};
}

PackedWeight fx3_from_bf16(const Tensor& t, ThreadPool* pool) {
  FETTLE_CHECK(t.dtype() == DType::kBF16 && t.rank() == 2);
  const auto rows = static_cast<size_t>(t.dim(0)), cols = static_cast<size_t>(t.dim(1));
  const Words words{t.bytes().data(), cols};
  PackedWeight w = empty_fx3(t.dim(0), t.dim(1));
  pack_rows(words, &w, pool);
  auto* starts = w.exception_starts.mutable_data<uint32_t>();
  uint64_t total = 0;
  for (size_t r = 1; r <= rows; ++r) {
    total += starts[r];
    if (total > UINT32_MAX)
      fail(ErrorCode::kInput, "fx3: [{}, {}]: more than {} weights outside the tables", rows, cols, UINT32_MAX);
    starts[r] = static_cast<uint32_t>(total);
  }
  w.exception_cols = Tensor::empty(DType::kU32, {static_cast<int64_t>(total)});
  w.exception_highs = Tensor::empty(DType::kU8, {static_cast<int64_t>(total)});
  if (total == 0) return w;
  auto* exception_cols = w.exception_cols.mutable_data<uint32_t>();
  uint8_t* exception_highs = part_bytes(w.exception_highs);
  for_rows(rows, pool, [&](size_t r) {
    size_t at = starts[r];
    if (at == starts[r + 1]) return;
    const Indices indices = indices_of(w.high_tables.data<uint8_t>() + r / kFx3TableRows * kFx3TableSize);
    for (size_t k = 0; k < cols; ++k) {
      const auto high = static_cast<uint8_t>(words.at(r, k) >> 8);
      if (indices[high] != kNone) continue;
      exception_cols[at] = static_cast<uint32_t>(k);
      exception_highs[at++] = high;
    }
  });
  return w;
}

void fx3_decode_row_bits(const PackedWeight& w, int64_t row, std::span<uint16_t> out) {
  const auto r = static_cast<size_t>(row);
  const uint8_t* table = w.high_tables.data<uint8_t>() + r / kFx3TableRows * kFx3TableSize;
  const uint8_t* tile = row_tiles(w, r);
  for (size_t col = 0; col < out.size(); col += kFx3Tile, tile += kFx3TileBytes)
    for (size_t j = 0; j < kFx3Tile; ++j) {
      const size_t k = col + fx3_weight_of(j);
      const int index = tile[j % kFx3IndexBytes] >> (j < kFx3IndexBytes ? 0 : 4) & 15;
      if (k < out.size()) out[k] = static_cast<uint16_t>(table[index] << 8 | tile[kFx3IndexBytes + j]);
    }
  const Fx3Exceptions exceptions = fx3_exceptions(w, r);
  for (size_t i = 0; i < exceptions.cols.size(); ++i) {
    uint16_t& word = out[exceptions.cols[i]];
    word = static_cast<uint16_t>(exceptions.highs[i] << 8 | (word & 0xFF));
  }
}

Tensor fx3_to_bf16(const PackedWeight& w, ThreadPool* pool) {
  Tensor t = Tensor::empty(DType::kBF16, {w.rows, w.cols});
  const auto cols = static_cast<size_t>(w.cols);
  auto* out = t.mutable_data<uint16_t>();
  for_rows(static_cast<size_t>(w.rows), pool, [&](size_t r) {
    fx3_decode_row_bits(w, static_cast<int64_t>(r), {out + r * cols, cols});
  });
  return t;
}

namespace {

std::string part_problem(const char* part, const Tensor& t, DType dtype, std::vector<int64_t> shape) {
  if (t.dtype() == dtype && t.shape() == shape) return {};
  return fmt::format("{}: expected {} [{}], found {}", part, dtype_name(dtype), fmt::join(shape, ", "), t.describe());
}

std::string contents_problem(const PackedWeight& w) {
  const auto rows = static_cast<size_t>(w.rows), cols = static_cast<size_t>(w.cols);
  const auto count = static_cast<uint64_t>(w.exception_cols.numel());
  const auto* starts = w.exception_starts.data<uint32_t>();
  if (starts[0] != 0) return fmt::format("exception_starts: expected 0 first, found {}", starts[0]);
  for (size_t r = 0; r < rows; ++r)
    if (starts[r + 1] < starts[r] || starts[r + 1] > count)
      return fmt::format("exception_starts: entry {}: expected {} to {}, found {}", r + 1, starts[r], count,
                         starts[r + 1]);
  if (starts[rows] != count) return fmt::format("exception_starts: expected {} last, found {}", count, starts[rows]);
  for (size_t r = 0; r < rows; ++r) {
    uint64_t least = 0;
    for (const uint32_t col : fx3_exceptions(w, r).cols) {
      if (col < least || col >= cols)
        return fmt::format("exception_cols: row {}: expected a column from {} to {}, found {}", r, least,
                           static_cast<int64_t>(cols) - 1, col);
      least = uint64_t{col} + 1;
    }
  }
  return {};
}

}  // namespace

std::string fx3_problem(const PackedWeight& w, bool contents) {
  const auto rows = static_cast<size_t>(w.rows), cols = static_cast<size_t>(w.cols);
  const auto row_bytes = static_cast<int64_t>(fx3_tiles(cols) * kFx3TileBytes);
  const auto tables = static_cast<int64_t>(fx3_tables(rows)), size = static_cast<int64_t>(kFx3TableSize);
  for (std::string problem :
       {part_problem("codes", w.codes, DType::kU8, {w.rows, row_bytes}),
        part_problem("high_tables", w.high_tables, DType::kU8, {tables, size}),
        part_problem("exception_starts", w.exception_starts, DType::kU32, {w.rows + 1}),
        part_problem("exception_cols", w.exception_cols, DType::kU32, {w.exception_cols.numel()}),
        part_problem("exception_highs", w.exception_highs, DType::kU8, {w.exception_cols.numel()})})
    if (!problem.empty()) return problem;
  return contents ? contents_problem(w) : std::string();
}

PackedWeight encode_fx3(MatView<const float> w, const FormatOptions& options, ThreadPool* pool) {
  return fx3_from_bf16(encode_bf16(w, options, pool).codes, pool);
}

}  // namespace fettle::formats
