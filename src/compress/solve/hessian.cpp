#include "compress/solve/hessian.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "compress/solve/blas.h"

namespace fettle::compress {
namespace {

constexpr size_t kTile = 256;                    // a tile's F32 product stays in the second-level cache
constexpr size_t kChunkTokens = 1024;            // F32 sums no longer than this
constexpr uint64_t kMagic = 0x314D4F4D45545446;  // "FTTEMOM1"
constexpr int64_t kMaxWidth = int64_t{1} << 20;

struct Header {
  uint64_t magic, symmetric, k, tokens;
};

// A sum of products with zero is NaN exactly when a factor is not finite.
bool row_finite(const float* x, size_t n) {
  float s = 0;
  for (size_t i = 0; i < n; ++i) s += x[i] * 0.0f;
  return s == 0;
}

void check_rows(MatView<const float> x, int64_t k, ThreadPool& pool) {
  if (x.cols != static_cast<size_t>(k))
    fail(ErrorCode::kInput, "calibration input: expected {} columns, found {}", k, x.cols);
  std::vector<uint8_t> bad(ceil_div<size_t>(x.rows, 64), 0);
  pool.parallel_chunks(x.rows, 64, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r)
      if (!row_finite(x.row(r), x.cols)) bad[begin / 64] = 1;
  });
  if (std::find(bad.begin(), bad.end(), 1) == bad.end()) return;
  for (size_t r = 0; r < x.rows; ++r)
    for (size_t c = 0; c < x.cols; ++c)
      if (!std::isfinite(x.row(r)[c]))
        fail(ErrorCode::kNumeric, "calibration input: row {}, column {}: expected a finite number, found {}", r, c,
             x.row(r)[c]);
}

}  // namespace

MomentTiles::MomentTiles(int64_t k, bool symmetric) : k_(k), symmetric_(symmetric) {
  if (k < 1 || k > kMaxWidth) fail(ErrorCode::kInput, "input width {}: expected 1 to {}", k, kMaxWidth);
  const std::vector<Tile> all = tiles();
  totals_.assign(all.back().offset + all.back().rows * all.back().cols, 0.0);
}

std::vector<MomentTiles::Tile> MomentTiles::tiles() const {
  const auto k = static_cast<size_t>(k_);
  std::vector<Tile> out;
  size_t offset = 0;
  for (size_t r = 0; r < k; r += kTile)
    for (size_t c = 0; c < (symmetric_ ? r + 1 : k); c += kTile) {
      out.push_back({r, c, std::min(kTile, k - r), std::min(kTile, k - c), offset});
      offset += out.back().rows * out.back().cols;
    }
  return out;
}

void MomentTiles::add(MatView<const float> x, MatView<const float> y, ThreadPool& pool) {
  if (x.rows != y.rows)
    fail(ErrorCode::kInput, "calibration input: {} float rows and {} quantised rows: expected as many", x.rows, y.rows);
  check_rows(x, k_, pool);
  if (!symmetric_) check_rows(y, k_, pool);
  const std::vector<Tile> all = tiles();
  pool.parallel_for(all.size(), [&](size_t i) {
    const Tile& t = all[i];
    std::vector<float> product(t.rows * t.cols);
    double* total = totals_.data() + t.offset;
    for (size_t begin = 0; begin < x.rows; begin += kChunkTokens) {
      const size_t n = std::min(kChunkTokens, x.rows - begin);
      blas::gemm(blas::Op::kTranspose, blas::Op::kNone, t.rows, t.cols, n, 1.0f, x.row(begin) + t.row, x.stride,
                 y.row(begin) + t.col, y.stride, 0.0f, product.data(), t.cols);
      for (size_t j = 0; j < product.size(); ++j) total[j] += static_cast<double>(product[j]);
    }
  });
  tokens_ += static_cast<int64_t>(x.rows);
}

void MomentTiles::merge(const MomentTiles& other) {
  if (other.k_ != k_ || other.symmetric_ != symmetric_)
    fail(ErrorCode::kInput, "statistics of width {} cannot be added to statistics of width {}", other.k_, k_);
  for (size_t i = 0; i < totals_.size(); ++i) totals_[i] += other.totals_[i];
  tokens_ += other.tokens_;
}

void MomentTiles::mean(std::span<float> out, ThreadPool* pool) const {
  const auto k = static_cast<size_t>(k_);
  FETTLE_CHECK_EQ(out.size(), k * k);
  const double scale = tokens_ > 0 ? 1.0 / static_cast<double>(tokens_) : 0.0;
  const std::vector<Tile> all = tiles();
  const auto write = [&](size_t i) {
    const Tile& t = all[i];
    const double* total = totals_.data() + t.offset;
    for (size_t r = 0; r < t.rows; ++r)
      for (size_t c = 0; c < t.cols; ++c) {
        const size_t row = t.row + r, col = t.col + c;
        if (symmetric_ && col > row) continue;  // diagonal tiles: the lower half speaks for both
        const auto v = static_cast<float>(total[r * t.cols + c] * scale);
        out[row * k + col] = v;
        if (symmetric_) out[col * k + row] = v;
      }
  };
  if (pool != nullptr) {
    pool->parallel_for(all.size(), write);
  } else {
    for (size_t i = 0; i < all.size(); ++i) write(i);
  }
}

std::vector<float> MomentTiles::diagonal() const {
  std::vector<float> out(static_cast<size_t>(k_));
  const double scale = tokens_ > 0 ? 1.0 / static_cast<double>(tokens_) : 0.0;
  for (const Tile& t : tiles())
    if (t.row == t.col)
      for (size_t i = 0; i < t.rows; ++i)
        out[t.row + i] = static_cast<float>(totals_[t.offset + i * t.cols + i] * scale);
  return out;
}

std::vector<std::byte> MomentTiles::save() const {
  const Header h{kMagic, symmetric_, static_cast<uint64_t>(k_), static_cast<uint64_t>(tokens_)};
  std::vector<std::byte> out(sizeof h + bytes());
  std::memcpy(out.data(), &h, sizeof h);
  std::memcpy(out.data() + sizeof h, totals_.data(), bytes());
  return out;
}

MomentTiles MomentTiles::load(std::span<const std::byte> bytes, const std::string& name) {
  Header h{};
  if (bytes.size() < sizeof h)
    fail(ErrorCode::kInput, "{}: statistics: expected at least {} bytes, found {}", name, sizeof h, bytes.size());
  std::memcpy(&h, bytes.data(), sizeof h);
  if (h.magic != kMagic || h.symmetric > 1 || h.k < 1 || h.k > static_cast<uint64_t>(kMaxWidth) ||
      h.tokens > uint64_t{1} << 62)
    fail(ErrorCode::kInput, "{}: statistics: header of another kind of file", name);
  // The size is known before anything is allocated: at least half of k^2 numbers, at most k^2 and a row of tiles.
  const uint64_t numbers = (bytes.size() - sizeof h) / sizeof(double);
  if (numbers < h.k * h.k / 2 || numbers > h.k * (h.k + kTile))
    fail(ErrorCode::kInput, "{}: statistics of width {}: found {} bytes", name, h.k, bytes.size());
  MomentTiles out(static_cast<int64_t>(h.k), h.symmetric != 0);
  if (bytes.size() != sizeof h + out.bytes())
    fail(ErrorCode::kInput, "{}: statistics of width {}: expected {} bytes, found {}", name, h.k,
         sizeof h + out.bytes(), bytes.size());
  std::memcpy(out.totals_.data(), bytes.data() + sizeof h, out.bytes());
  for (const double v : out.totals_)
    if (!std::isfinite(v)) fail(ErrorCode::kNumeric, "{}: statistics hold a value that is not finite", name);
  out.tokens_ = static_cast<int64_t>(h.tokens);
  return out;
}

namespace {

MatView<const float> square_mean(const MomentTiles& sums, std::vector<float>* out, ThreadPool* pool) {
  const auto k = static_cast<size_t>(sums.k());
  if (out->empty()) {
    out->resize(k * k);
    sums.mean(*out, pool);
  }
  return {out->data(), k, k};
}

}  // namespace

void HessianAccumulator::add(MatView<const float> x, ThreadPool& pool) {
  release();
  sums_.add(x, x, pool);
}
void HessianAccumulator::merge(const HessianAccumulator& other) {
  release();
  sums_.merge(other.sums_);
}
MatView<const float> HessianAccumulator::mean(ThreadPool* pool) { return square_mean(sums_, &mean_, pool); }

std::vector<float> HessianAccumulator::diagonal() const { return sums_.diagonal(); }

HessianAccumulator HessianAccumulator::load(std::span<const std::byte> bytes, const std::string& name) {
  MomentTiles sums = MomentTiles::load(bytes, name);
  if (!sums.symmetric()) fail(ErrorCode::kInput, "{}: expected one input's statistics, found cross moments", name);
  HessianAccumulator out(sums.k());
  out.sums_ = std::move(sums);
  return out;
}

void CrossAccumulator::add(MatView<const float> x_float, MatView<const float> x_quant, ThreadPool& pool) {
  release();
  sums_.add(x_float, x_quant, pool);
}
void CrossAccumulator::merge(const CrossAccumulator& other) {
  release();
  sums_.merge(other.sums_);
}
MatView<const float> CrossAccumulator::mean(ThreadPool* pool) { return square_mean(sums_, &mean_, pool); }

CrossAccumulator CrossAccumulator::load(std::span<const std::byte> bytes, const std::string& name) {
  MomentTiles sums = MomentTiles::load(bytes, name);
  if (sums.symmetric()) fail(ErrorCode::kInput, "{}: expected cross moments, found one input's statistics", name);
  CrossAccumulator out(sums.k());
  out.sums_ = std::move(sums);
  return out;
}

std::string token_note(int64_t tokens, int64_t k) {
  if (tokens >= 4 * k) return {};
  return fmt::format("{} calibration tokens for {} inputs: {}", tokens, k,
                     tokens < k ? "H is singular, only damping makes it invertible" : "at least 4 per input advised");
}

}  // namespace fettle::compress
