#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

// Second moments of layer inputs, the statistics that GPTQ, Qronos and their relatives need.
namespace fettle::compress {

// Running sum of x^T y over tokens in tiles of 256 x 256: products in F32 over at most 1024 tokens, totals in F64.
// Owner: one thread at a time. The bits depend on the rows added and how they were batched, not on the pool.
class MomentTiles {
 public:
  MomentTiles(int64_t k, bool symmetric);
  // x, y: [T, K]; the same matrix for symmetric sums. Throws kInput for another width, kNumeric for a value that is not
  // finite (named by row and column).
  void add(MatView<const float> x, MatView<const float> y, ThreadPool& pool);
  void merge(const MomentTiles& other);  // kInput unless both have the same kind and width
  int64_t k() const { return k_; }
  int64_t tokens() const { return tokens_; }
  bool symmetric() const { return symmetric_; }
  void mean(std::span<float> out, ThreadPool* pool) const;  // [K, K]; zeros before the first token
  std::vector<float> diagonal() const;                      // [K] of the mean
  size_t bytes() const { return totals_.size() * sizeof(double); }
  std::vector<std::byte> save() const;
  static MomentTiles load(std::span<const std::byte> bytes, const std::string& name);

 private:
  struct Tile {
    size_t row, col, rows, cols, offset;  // offset into totals_
  };
  std::vector<Tile> tiles() const;
  int64_t k_;
  bool symmetric_;
  int64_t tokens_ = 0;
  std::vector<double> totals_;
};

// H = E[x x^T] [K, K]; only the lower triangle of tiles is held until mean() is called.
class HessianAccumulator {
 public:
  explicit HessianAccumulator(int64_t k) : sums_(k, true) {}  // k >= 1, kInput otherwise
  void add(MatView<const float> x, ThreadPool& pool);         // x: [T, K], T may be 0
  void merge(const HessianAccumulator& other);
  int64_t k() const { return sums_.k(); }
  int64_t tokens() const { return sums_.tokens(); }
  MatView<const float> mean(ThreadPool* pool = nullptr);  // valid until the next add, merge or release
  void release() { mean_ = {}; }                          // frees the F32 copy that mean() made
  std::vector<float> diagonal() const;                    // E[x_k^2]
  size_t bytes() const { return sums_.bytes() + mean_.size() * sizeof(float); }
  // A little-endian image; load throws kInput naming `name` when it is cut, altered in length or of another kind.
  std::vector<std::byte> save() const { return sums_.save(); }
  static HessianAccumulator load(std::span<const std::byte> bytes, const std::string& name);

 private:
  MomentTiles sums_;
  std::vector<float> mean_;
};

// G = E[x_float x_quant^T] [K, K], row = float index (Qronos).
class CrossAccumulator {
 public:
  explicit CrossAccumulator(int64_t k) : sums_(k, false) {}
  void add(MatView<const float> x_float, MatView<const float> x_quant, ThreadPool& pool);  // both [T, K], row by row
  void merge(const CrossAccumulator& other);
  int64_t k() const { return sums_.k(); }
  int64_t tokens() const { return sums_.tokens(); }
  MatView<const float> mean(ThreadPool* pool = nullptr);
  void release() { mean_ = {}; }
  size_t bytes() const { return sums_.bytes() + mean_.size() * sizeof(float); }
  std::vector<std::byte> save() const { return sums_.save(); }
  static CrossAccumulator load(std::span<const std::byte> bytes, const std::string& name);

 private:
  MomentTiles sums_;
  std::vector<float> mean_;
};

// A warning for the report when the rank of H is in doubt (tokens < 4 K; below K it is singular); empty otherwise.
std::string token_note(int64_t tokens, int64_t k);

}  // namespace fettle::compress
