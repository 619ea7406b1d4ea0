#include <algorithm>
#include <cstring>

#include "kernels/matmul_driver.h"
#include "kernels/prepared.h"

// Products of FX3 weights with the bits of the same BF16 weights: every block of kDenseBlockK columns adds one float
// per token and row, in k order, fused or by the dense kernel on decoded rows.
namespace fettle::kernels {
namespace {

constexpr size_t kPanelRows = 8;                           // rows decoded at a time for few tokens: 16 KiB, half of L1
constexpr size_t kPanelStride = kDenseBlockK + kDensePad;  // words; no power of two, for the cache sets

struct Fx3Item {
  const Fx3Kernel& fx3;
  const DenseKernels& dense;
  const PreparedData& p;
  const DenseActs& acts;
  size_t token, tokens;

  const uint8_t* x(size_t k) const { return acts.values.data() + token * acts.stride + k * dense_act_bytes(acts.form); }
};

// Rows first, first + step, ... of an item.
struct Rows {
  size_t first, step, count;
  size_t operator[](size_t i) const { return first + i * step; }
};

// Columns [k, k + width) of the rows are decoded and multiplied. y: [tokens][kDenseRowsMax], one column per row.
void decoded_block(const Fx3Item& item, const Rows& rows, size_t k, size_t width, uint16_t* panel, float* y) {
  for (size_t i = 0; i < rows.count; ++i)
    fx3_decode_block(item.fx3, item.p, rows[i], k, width, panel + i * kPanelStride);
  DenseArgs d{};
  d.type = DType::kBF16;
  d.w = reinterpret_cast<const uint8_t*>(panel);
  d.w_stride = kPanelStride * sizeof(uint16_t);
  d.rows = rows.count;
  d.x = item.x(k);
  d.x_stride = item.acts.stride;
  d.tokens = item.tokens;
  d.cols = width;
  d.y = y;
  d.y_stride = kDenseRowsMax;
  d.add = true;
  item.dense.dot(d);
}

// Exceptions of the rows in columns [k, k + width); false when there are too many for a fused block.
bool collect_patches(const PreparedData& p, const Rows& rows, size_t k, size_t width, Fx3Patch* patches,
                     Fx3DotArgs* d) {
  for (size_t i = 0; i < rows.count; ++i) {
    const formats::Fx3Exceptions e = formats::fx3_exceptions(p.fx3, rows[i]).within(k, k + width);
    if (d->patch_count + e.cols.size() > kFx3MaxPatches) return false;
    for (size_t j = 0; j < e.cols.size(); ++j) {
      const size_t col = e.cols[j] - k, tile = col / formats::kFx3Tile;
      patches[d->patch_count++] = {static_cast<uint8_t>(i), static_cast<uint8_t>(tile),
                                   static_cast<uint8_t>(col % formats::kFx3Tile), e.highs[j]};
      d->patched_tiles |= 1u << tile;
    }
  }
  return true;
}

// Eight rows that share a table times one token, all columns in whole tiles. y: [8].
void fused_rows(const Fx3Item& item, const Rows& rows, uint16_t* panel, float* y) {
  const auto cols = static_cast<size_t>(item.p.cols);
  Fx3Patch patches[kFx3MaxPatches];
  for (size_t k = 0; k < cols; k += kDenseBlockK) {
    const size_t width = std::min(kDenseBlockK, cols - k);
    Fx3DotArgs d{};
    if (!collect_patches(item.p, rows, k, width, patches, &d)) {
      decoded_block(item, rows, k, width, panel, y);
      continue;
    }
    d.tiles = fx3_tiles_of(item.p, rows.first, k / formats::kFx3Tile);
    d.stride = rows.step * fx3_row_bytes(item.p);
    d.count = width / formats::kFx3Tile;
    d.table = fx3_table_of(item.p, rows.first);
    d.x = item.x(k);
    d.patches = patches;
    d.y = y;
    item.fx3.dot(d);
  }
}

// All groups of eight rows of an item; returns the number of rows done. Rows of a group lie as far apart as the item
// allows: each is a stream of its own for the hardware prefetchers, and continues in the next group where it ended.
// With adjacent rows the prefetchers started anew after every row, and often two streams shared a page.
size_t fused_groups(const Fx3Item& item, size_t row, size_t rows, uint16_t* panel, float* acc) {
  const size_t step = rows / kFx3FusedRows;
  for (size_t j = 0; j < step; ++j) {
    float y[kFx3FusedRows] = {};
    fused_rows(item, {row + j, step, kFx3FusedRows}, panel, y);
    for (size_t i = 0; i < kFx3FusedRows; ++i) acc[j + i * step] = y[i];
  }
  return step * kFx3FusedRows;
}

// The fused product exists for the activations of its own level.
bool can_fuse(const Fx3Item& item) {
  return item.tokens == 1 && item.fx3.dot != nullptr && item.fx3.isa == item.dense.isa &&
         item.p.cols % static_cast<int64_t>(formats::kFx3Tile) == 0;
}

}  // namespace

void fx3_decode_block(const Fx3Kernel& kernel, const PreparedData& p, size_t row, size_t begin, size_t width,
                      uint16_t* out) {
  kernel.decode(fx3_tiles_of(p, row, begin / formats::kFx3Tile), formats::fx3_tiles(width), fx3_table_of(p, row), out);
  const formats::Fx3Exceptions e = formats::fx3_exceptions(p.fx3, row).within(begin, begin + width);
  for (size_t i = 0; i < e.cols.size(); ++i) {
    uint16_t& word = out[e.cols[i] - begin];
    word = static_cast<uint16_t>(e.highs[i] << 8 | (word & 0xFF));
  }
}

void run_fx3_item(const KernelSet& kernels, const Job& job, size_t row, size_t rows, size_t token, size_t tokens) {
  const Fx3Kernel& fx3 = kernels.fx3 != nullptr ? *kernels.fx3 : fx3_kernel(active_isa());
  const Fx3Item item{fx3, kernels.dense, *job.weight, job.scratch->dense[job.acts], token, tokens};
  const auto cols = static_cast<size_t>(item.p.cols);
  alignas(64) uint16_t panel[kDenseTileRows * kPanelStride];
  alignas(64) float acc[kTokenTile * kDenseRowsMax];
  for (size_t t = 0; t < tokens; ++t) std::memset(acc + t * kDenseRowsMax, 0, rows * sizeof(float));
  const bool one_table = row / formats::kFx3TableRows == (row + rows - 1) / formats::kFx3TableRows;
  size_t r = can_fuse(item) && one_table ? fused_groups(item, row, rows, panel, acc) : 0;
  const size_t panel_rows = tokens <= 4 ? kPanelRows : kDenseTileRows;
  for (; r < rows; r += panel_rows)
    for (size_t k = 0; k < cols; k += kDenseBlockK)
      decoded_block(item, {row + r, 1, std::min(panel_rows, rows - r)}, k, std::min(kDenseBlockK, cols - k), panel,
                    acc + r);
  store_rows(job, row, rows, token, tokens, acc);
}

}  // namespace fettle::kernels
