#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/thread_pool.h"
#include "tensor/weight.h"

// Matrix products with weights in any format: y[M,N] = x[M,K] * w[N,K]^T. src/kernels/README.md has the layouts.
namespace fettle::kernels {

// How activations enter products with integer and 4-bit float weights. Dense and fp8 weights always use float
// activations (f32, or bf16 where the processor multiplies bf16 natively), whatever the mode.
enum class ActMode : uint8_t {
  kA16,  // int16 with one scale per 32 values: relative error of a block <= 2^-15 of its maximum
  kA8,   // int8 with one scale per 32 values; faster, error <= 1/254 of the block's maximum
};

enum class Store : uint8_t { kOverwrite, kAdd };

struct PreparedData;

// One weight matrix in the layout the kernels read. Copies share the bytes; immutable, so any thread may read it.
class PreparedWeight {
 public:
  PreparedWeight() = default;
  explicit PreparedWeight(std::shared_ptr<const PreparedData> data) : data_(std::move(data)) {}

  bool is_empty() const { return data_ == nullptr; }
  int64_t rows() const;
  int64_t cols() const;
  Format format() const;
  size_t bytes() const;    // memory this weight needs while it is used: own buffers or the mapped dense tensor
  bool zero_copy() const;  // dense: still points at the tensor it was prepared from
  const PreparedData& data() const { return *data_; }

 private:
  std::shared_ptr<const PreparedData> data_;
};

// Dense F32/F16/BF16 weights stay where they are (aligned or not) and keep their owner alive; all others are repacked
// into 16-row blocks, in parallel. Throws kInternal for inconsistent parts, kNumeric for NaN scale or fp8 codes.
PreparedWeight prepare(const PackedWeight& w, ThreadPool& pool);

// Buffers of one caller at a time; they grow to the largest problem seen, then no call allocates.
class MatmulScratch {
 public:
  MatmulScratch();
  ~MatmulScratch();
  MatmulScratch(MatmulScratch&&) noexcept;
  MatmulScratch& operator=(MatmulScratch&&) noexcept;
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// y[M,N] (+)= x[M,K] * w[N,K]^T; w's input transform is applied to x first. Row i of an M-row call has the same bits as
// the 1-row call of x row i, for any number of threads. Integer and 4-bit formats give the same bits at every ISA level
// too. y must not overlap x. M = 0 is fine.
void matmul(MatView<const float> x, const PreparedWeight& w, ActMode mode, ThreadPool& pool, MatmulScratch& scratch,
            MatView<float> y, Store store = Store::kOverwrite);

// The same for several weights of one input (q,k,v or gate,up): activations are converted once, equal input transforms
// are applied once, all products run in one parallel region. ws[i] writes ys[i]; bits equal separate calls.
void matmul_many(MatView<const float> x, std::span<const PreparedWeight* const> ws, ActMode mode, ThreadPool& pool,
                 MatmulScratch& scratch, std::span<const MatView<float>> ys, Store store = Store::kOverwrite);

// out[i,:] = w[rows[i],:], the values the format defines (the bits of decode_row, but -0 may become 0). out:
// [rows.size(), K]. Throws kInternal for a row outside [0, N).
void decode_rows(const PreparedWeight& w, std::span<const int32_t> rows, MatView<float> out);
void decode_rows(const PackedWeight& w, std::span<const int32_t> rows, MatView<float> out);

}  // namespace fettle::kernels
