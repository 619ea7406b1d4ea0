#include "tensor/sinq/presinq.h"

#include <algorithm>

namespace fettle::sinq {
namespace {

// The divisor of cols nearest to tile, tile + i before tile - i.
int64_t nearest_divisor(int64_t cols, int64_t tile) {
  if (tile >= cols) return cols;
  for (int64_t i = 0;; ++i) {
    if (cols % (tile + i) == 0) return tile + i;
    if (tile - i >= 1 && cols % (tile - i) == 0) return tile - i;
  }
}

void divide_columns(MatView<float> m, std::span<const float> t) {
  FETTLE_CHECK_EQ(m.cols, t.size());
  for (size_t r = 0; r < m.rows; ++r)
    for (size_t c = 0; c < m.cols; ++c) m.row(r)[c] /= t[c];
}

void fold_readers(FoldBlock::Readers& readers, bool plus_one, const FoldOptions& options, ThreadPool* pool) {
  if (readers.matrices.empty()) return;
  FETTLE_CHECK(readers.weighed > 0 && readers.weighed <= readers.matrices.size());
  const std::vector<MatView<const float>> weighed(readers.matrices.begin(),
                                                  readers.matrices.begin() + static_cast<ptrdiff_t>(readers.weighed));
  const std::vector<float> t = fold_factors(weighed, options, pool);
  FETTLE_CHECK_EQ(readers.norm.size(), t.size());
  for (const MatView<float>& m : readers.matrices) divide_columns(m, t);
  for (size_t c = 0; c < t.size(); ++c)
    readers.norm[c] = plus_one ? (1.0f + readers.norm[c]) * t[c] - 1.0f : readers.norm[c] * t[c];
}

void fold_expert(FoldBlock::Expert& e, const FoldOptions& options, ThreadPool* pool) {
  const MatView<const float> down = e.down;
  const std::vector<float> t = fold_factors({&down, 1}, options, pool);
  FETTLE_CHECK_EQ(e.up.rows, t.size());
  divide_columns(e.down, t);
  for (size_t r = 0; r < e.up.rows; ++r)
    for (size_t c = 0; c < e.up.cols; ++c) e.up.row(r)[c] *= t[r];
  for (size_t r = 0; r < e.up_bias.size(); ++r) e.up_bias[r] *= t[r];
}

}  // namespace

std::vector<float> fold_factors(std::span<const MatView<const float>> matrices, const FoldOptions& options,
                                ThreadPool* pool) {
  FETTLE_CHECK(!matrices.empty());
  size_t rows = 0;
  for (const auto& m : matrices) rows += m.rows;
  const size_t cols = matrices.front().cols;
  std::vector<float> stacked(rows * cols);
  float* to = stacked.data();
  for (const auto& m : matrices)
    for (size_t r = 0; r < m.rows; ++r, to += cols) std::copy_n(m.row(r), cols, to);
  const int64_t tile = nearest_divisor(static_cast<int64_t>(cols), options.tile);
  std::vector<float> t =
      column_factors({stacked.data(), rows, cols}, tile, {.order = options.rounds, .robust = false}, pool);
  std::vector<float> sorted = t;
  std::sort(sorted.begin(), sorted.end());
  const float median = sorted[(sorted.size() - 1) / 2];
  for (float& v : t) v /= median;
  return t;
}

void fold_block(FoldBlock& block, const FoldOptions& options, ThreadPool* pool) {
  for (int i = 0; i < options.repeats; ++i) {
    for (FoldBlock::Expert& e : block.experts) fold_expert(e, options, pool);
    fold_readers(block.attention, block.norm_plus_one, options, pool);
    fold_readers(block.ffn, block.norm_plus_one, options, pool);
  }
}

}  // namespace fettle::sinq
