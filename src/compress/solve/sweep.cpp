#include "compress/solve/sweep.h"

#include <algorithm>

#include "compress/solve/blas.h"
#include "compress/solve/code_space.h"

namespace fettle::compress {
namespace {

constexpr size_t kPanelRows = 64;  // rows of a task: 64 x 128 errors and a 64-wide stripe of v stay in the caches
constexpr size_t kInner = 16;      // columns updated one by one before a small product updates the rest of the block

// Working weights of up to kPanelRows rows, one column after another: v[(t - first) * rows + r].
template <typename T>
class Panel {
 public:
  Panel(Grid* grid, std::span<const T> u, std::span<const int64_t> perm, size_t first, SweepGroups groups, size_t begin,
        size_t rows)
      : grid_(grid),
        u_(u),
        perm_(perm),
        first_(first),
        k_(perm.size()),
        groups_(groups),
        begin_(begin),
        rows_(rows),
        space_(code_space(*grid)),
        v_((k_ - first) * rows) {}

  void load(std::span<const T> v) {
    const size_t width = k_ - first_;
    for (size_t t = 0; t < width; ++t)
      for (size_t r = 0; r < rows_; ++r) v_[t * rows_ + r] = v[(begin_ + r) * width + t];
  }

  void run(size_t block, std::span<uint8_t> codes) {
    errors_.resize(block * rows_);
    for (size_t b = first_; b < k_;) {
      const size_t e = cut(b, block);
      for (size_t i = b; i < e;) {
        const size_t j = cut(i, std::min(kInner, e - i), e);
        for (size_t t = i; t < j; ++t) column(t, b, j, codes);
        apply(i, j, b, j, e);
        i = j;
      }
      apply(b, e, b, e, k_);
      b = e;
    }
  }

 private:
  // End of the block that starts at b. With dynamic groups a group never straddles an end unless it is longer than the
  // block, and then it starts a block, so that it is complete and up to date when its scale is computed.
  size_t cut(size_t b, size_t block, size_t end = SIZE_MAX) const {
    end = std::min({end, k_, b + block});
    if (groups_ == SweepGroups::kFixed) return end;
    const auto g = static_cast<size_t>(grid_->group_size);
    if (end == k_) {
      const size_t next = (b / g + 1) * g;
      return g > block && next < end ? next : end;
    }
    const size_t whole = end / g * g;
    return whole > b ? whole : std::min(end, (b / g + 1) * g);
  }

  T* column_of(size_t t) { return v_.data() + (t - first_) * rows_; }

  void refit(size_t t) {
    const auto g = static_cast<size_t>(grid_->group_size);
    if (t % g != 0 && t != first_) return;
    const size_t n = std::min(g - t % g, k_ - t);
    std::vector<float> x(n);
    for (size_t r = 0; r < rows_; ++r) {
      for (size_t j = 0; j < n; ++j) x[j] = static_cast<float>(column_of(t + j)[r]);
      refit_group(grid_, static_cast<int64_t>(begin_ + r), static_cast<int64_t>(t / g), x);
    }
  }

  // Rounds position t of a block that starts at b and diffuses its error to the positions before `end`.
  void column(size_t t, size_t b, size_t end, std::span<uint8_t> codes) {
    if (groups_ == SweepGroups::kDynamic) refit(t);
    const int64_t col = perm_[t];
    const T pivot = u_[t * k_ + t];
    T *x = column_of(t), *error = errors_.data() + (t - b) * rows_;
    for (size_t r = 0; r < rows_; ++r) {
      const size_t at = grid_->at(static_cast<int64_t>(begin_ + r), col);
      const float s = grid_->scales[at], z = grid_->zeros.empty() ? space_.zero : static_cast<float>(grid_->zeros[at]);
      const T scale = static_cast<T>(s);
      const uint8_t code = space_.encode(s != 0 ? x[r] / scale : T(0), static_cast<T>(z));
      codes[(begin_ + r) * k_ + static_cast<size_t>(col)] = code;
      error[r] = (x[r] - static_cast<T>(space_.value(code, z)) * scale) / pivot;
    }
    for (size_t j = t + 1; j < end; ++j) {
      const T f = u_[t * k_ + j];
      T* y = column_of(j);
      for (size_t r = 0; r < rows_; ++r) y[r] -= error[r] * f;
    }
  }

  // Diffuses the errors of positions [i, j) of the block that starts at b to positions [from, to).
  void apply(size_t i, size_t j, size_t b, size_t from, size_t to) {
    if (from >= to) return;
    blas::gemm(blas::Op::kTranspose, blas::Op::kNone, to - from, rows_, j - i, T(-1), u_.data() + i * k_ + from, k_,
               errors_.data() + (i - b) * rows_, rows_, T(1), column_of(from), rows_);
  }

  Grid* grid_;
  std::span<const T> u_;
  std::span<const int64_t> perm_;
  size_t first_, k_;
  SweepGroups groups_;
  size_t begin_, rows_;
  CodeSpace space_;
  std::vector<T> v_, errors_;
};

}  // namespace

template <typename T>
void sweep(Grid* grid, std::span<T> v, std::span<const T> u, std::span<const int64_t> perm, size_t first, int64_t block,
           SweepGroups groups, std::span<uint8_t> codes, ThreadPool& pool) {
  const size_t k = perm.size();
  if (block < 1) fail(ErrorCode::kUsage, "block {}: expected at least 1 column", block);
  FETTLE_CHECK_EQ(u.size(), k * k);
  FETTLE_CHECK_EQ(v.size(), static_cast<size_t>(grid->rows) * (k - first));
  const size_t width = std::min(static_cast<size_t>(block), k);
  pool.parallel_chunks(static_cast<size_t>(grid->rows), kPanelRows, [&](size_t begin, size_t end) {
    // Dynamic groups that are longer than the block extend it, see cut().
    const size_t longest = groups == SweepGroups::kDynamic ? std::max(width, kInner) : width;
    Panel<T> panel(grid, u, perm, first, groups, begin, end - begin);
    panel.load(v);
    panel.run(longest, codes);
  });
}

template void sweep(Grid*, std::span<float>, std::span<const float>, std::span<const int64_t>, size_t, int64_t,
                    SweepGroups, std::span<uint8_t>, ThreadPool&);
template void sweep(Grid*, std::span<double>, std::span<const double>, std::span<const int64_t>, size_t, int64_t,
                    SweepGroups, std::span<uint8_t>, ThreadPool&);

}  // namespace fettle::compress
