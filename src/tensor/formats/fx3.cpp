#include "tensor/formats/fx3.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "tensor/convert.h"
#include "tensor/formats/dense.h"
#include "tensor/formats/encode_common.h"
#include "tensor/layout.h"

namespace fettle::formats {
namespace {

constexpr int kEscape = 7;
constexpr size_t kTilesPerGroup = kFx3Group / kFx3Tile;

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

uint8_t exponent_of(uint16_t u) { return static_cast<uint8_t>(u >> 7); }
uint16_t word_of(int exponent, uint8_t sm) {
  return static_cast<uint16_t>((sm & 0x80) << 8 | exponent << 7 | (sm & 0x7F));
}

// First exponent of the seven consecutive ones that most weights of the row have; the lowest of several.
uint8_t best_base(const Words& w, size_t row) {
  std::array<size_t, 256> counts{};
  for (size_t k = 0; k < w.cols; ++k) ++counts[exponent_of(w.at(row, k))];
  size_t window = 0, best = 0;
  int base = 0;
  for (int e = 0; e < kEscape; ++e) window += counts[static_cast<size_t>(e)];
  best = window;
  for (int b = 1; b <= kFx3MaxBase; ++b) {
    window += counts[static_cast<size_t>(b + kEscape - 1)] - counts[static_cast<size_t>(b - 1)];
    if (window > best) {
      best = window;
      base = b;
    }
  }
  return static_cast<uint8_t>(base);
}

bool escapes(uint8_t exponent, uint8_t base) { return exponent < base || exponent >= base + kEscape; }

// One tile; returns the end of the escapes written.
uint8_t* pack_tile(const Words& w, size_t row, size_t col, uint8_t base, uint8_t* tile, uint8_t* escape) {
  uint64_t planes[3] = {};
  uint8_t* sm = tile + sizeof planes;
  for (size_t j = 0; j < kFx3Tile; ++j) {
    const size_t k = col + fx3_weight_of(j);
    if (k >= w.cols) {
      sm[j] = 0;
      continue;
    }
    const uint16_t u = w.at(row, k);
    const uint8_t e = exponent_of(u);
    sm[j] = static_cast<uint8_t>((u >> 8 & 0x80) | (u & 0x7F));
    int code = e - base;
    if (escapes(e, base)) {
      code = kEscape;
      *escape++ = e;
    }
    for (int p = 0; p < 3; ++p) planes[p] |= static_cast<uint64_t>(code >> p & 1) << j;
  }
  std::memcpy(tile, planes, sizeof planes);
  return escape;
}

uint64_t plane(const uint8_t* tile, size_t p) {
  uint64_t v;
  std::memcpy(&v, tile + 8 * p, sizeof v);
  return v;
}

const uint8_t* row_tiles(const PackedWeight& w, size_t row) {
  return w.codes.data<uint8_t>() + row * static_cast<size_t>(w.codes.dim(1));
}

}  // namespace

PackedWeight fx3_from_bf16(const Tensor& t, ThreadPool* pool) {
  FETTLE_CHECK(t.dtype() == DType::kBF16 && t.rank() == 2);
  const auto rows = static_cast<size_t>(t.dim(0)), cols = static_cast<size_t>(t.dim(1));
  const Words words{t.bytes().data(), cols};
  const size_t tiles = fx3_tiles(cols), groups = fx3_groups(cols);
  PackedWeight w;
  w.format = Format::kFx3;
  w.rows = t.dim(0);
  w.cols = t.dim(1);
  w.codes = Tensor::empty(DType::kU8, {w.rows, static_cast<int64_t>(tiles * kFx3TileBytes)});
  w.exponent_bases = Tensor::empty(DType::kU8, {w.rows});
  w.escape_starts = Tensor::zeros(DType::kU32, {static_cast<int64_t>(rows * groups + 1)});
  auto* starts = reinterpret_cast<uint32_t*>(part_bytes(w.escape_starts));
  uint8_t* bases = part_bytes(w.exponent_bases);
  for_rows(rows, pool, [&](size_t r) {
    const uint8_t base = bases[r] = best_base(words, r);
    for (size_t k = 0; k < cols; ++k)
      starts[r * groups + k / kFx3Group + 1] += escapes(exponent_of(words.at(r, k)), base) ? 1 : 0;
  });
  uint64_t total = 0;
  for (size_t i = 1; i <= rows * groups; ++i) {
    total += starts[i];
    if (total > UINT32_MAX)
      fail(ErrorCode::kInput, "fx3: [{}, {}]: more than {} exponents outside the rows' windows", rows, cols,
           UINT32_MAX);
    starts[i] = static_cast<uint32_t>(total);
  }
  w.escapes = Tensor::empty(DType::kU8, {static_cast<int64_t>(total)});
  uint8_t* escape_bytes = part_bytes(w.escapes);
  uint8_t* codes = part_bytes(w.codes);
  for_rows(rows, pool, [&](size_t r) {
    uint8_t* escape = escape_bytes + starts[r * groups];
    for (size_t i = 0; i < tiles; ++i)
      escape = pack_tile(words, r, i * kFx3Tile, bases[r], codes + (r * tiles + i) * kFx3TileBytes, escape);
  });
  return w;
}

void fx3_decode_row_bits(const PackedWeight& w, int64_t row, std::span<uint16_t> out) {
  const auto r = static_cast<size_t>(row);
  const size_t groups = fx3_groups(out.size());
  const int base = w.exponent_bases.data<uint8_t>()[r];
  const uint8_t* escape = w.escapes.data<uint8_t>() + w.escape_starts.data<uint32_t>()[r * groups];
  const uint8_t* tile = row_tiles(w, r);
  for (size_t col = 0; col < out.size(); col += kFx3Tile, tile += kFx3TileBytes) {
    const uint64_t p0 = plane(tile, 0), p1 = plane(tile, 1), p2 = plane(tile, 2);
    for (size_t j = 0; j < kFx3Tile; ++j) {
      const auto code = static_cast<int>((p0 >> j & 1) | (p1 >> j & 1) << 1 | (p2 >> j & 1) << 2);
      const int exponent = code == kEscape ? *escape++ : base + code;
      if (const size_t k = col + fx3_weight_of(j); k < out.size()) out[k] = word_of(exponent, tile[24 + j]);
    }
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
  const size_t groups = fx3_groups(cols), tiles = fx3_tiles(cols);
  const auto* starts = w.escape_starts.data<uint32_t>();
  if (rows * groups > 0 && starts[0] != 0) return fmt::format("escape_starts: expected 0 first, found {}", starts[0]);
  uint64_t count = 0;
  for (size_t r = 0; r < rows; ++r) {
    if (w.exponent_bases.data<uint8_t>()[r] > kFx3MaxBase)
      return fmt::format("exponent_bases: row {}: expected at most {}, found {}", r, kFx3MaxBase,
                         w.exponent_bases.data<uint8_t>()[r]);
    const uint8_t* tile = row_tiles(w, r);
    for (size_t i = 0; i < tiles; ++i, tile += kFx3TileBytes) {
      count += static_cast<uint64_t>(std::popcount(plane(tile, 0) & plane(tile, 1) & plane(tile, 2)));
      if (i % kTilesPerGroup + 1 != kTilesPerGroup && i + 1 != tiles) continue;
      const size_t group = r * groups + i / kTilesPerGroup;
      if (starts[group + 1] != count)
        return fmt::format("escape_starts: entry {}: expected {} escapes as in the codes, found {}", group + 1, count,
                           starts[group + 1]);
    }
  }
  if (count != static_cast<uint64_t>(w.escapes.numel()))
    return fmt::format("escapes: expected {} bytes, found {}", count, w.escapes.numel());
  return {};
}

}  // namespace

std::string fx3_problem(const PackedWeight& w, bool contents) {
  const auto cols = static_cast<size_t>(w.cols);
  const auto row_bytes = static_cast<int64_t>(fx3_tiles(cols) * kFx3TileBytes);
  for (std::string problem : {part_problem("codes", w.codes, DType::kU8, {w.rows, row_bytes}),
                              part_problem("exponent_bases", w.exponent_bases, DType::kU8, {w.rows}),
                              part_problem("escapes", w.escapes, DType::kU8, {w.escapes.numel()}),
                              part_problem("escape_starts", w.escape_starts, DType::kU32,
                                           {w.rows * static_cast<int64_t>(fx3_groups(cols)) + 1})})
    if (!problem.empty()) return problem;
  return contents ? contents_problem(w) : std::string();
}

PackedWeight encode_fx3(MatView<const float> w, const FormatOptions& options, ThreadPool* pool) {
  return fx3_from_bf16(encode_bf16(w, options, pool).codes, pool);
}

}  // namespace fettle::formats
