#include "tensor/tensor.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "base/checked.h"
#include "tensor/convert.h"

namespace fettle {
namespace {

// Number of elements; throws kInternal when a dimension is negative or the byte count does not fit 63 bits.
int64_t checked_numel(DType dtype, const std::vector<int64_t>& shape) {
  uint64_t n = 1;
  for (const int64_t dim : shape) {
    FETTLE_CHECK(dim >= 0);
    FETTLE_CHECK(checked_mul(n, static_cast<uint64_t>(dim), &n));
  }
  uint64_t bytes = 0;
  FETTLE_CHECK(checked_mul(n, dtype_bytes(dtype), &bytes) && bytes <= static_cast<uint64_t>(INT64_MAX));
  return static_cast<int64_t>(n);
}

std::shared_ptr<std::byte> allocate(size_t bytes) {
  // Rounded up so that whole-vector loads at the end stay inside the block; never empty.
  auto* p = static_cast<std::byte*>(std::aligned_alloc(64, round_up<size_t>(std::max<size_t>(bytes, 1), 64)));
  if (p == nullptr) throw std::bad_alloc();
  return {p, [](std::byte* q) { std::free(q); }};
}

}  // namespace

Tensor Tensor::empty(DType dtype, std::vector<int64_t> shape) {
  Tensor t;
  t.dtype_ = dtype;
  t.numel_ = checked_numel(dtype, shape);
  t.shape_ = std::move(shape);
  const std::shared_ptr<std::byte> block = allocate(t.nbytes());
  t.data_ = block.get();
  t.keep_alive_ = block;
  t.owned_ = true;
  return t;
}

Tensor Tensor::zeros(DType dtype, std::vector<int64_t> shape) {
  Tensor t = empty(dtype, std::move(shape));
  std::memset(const_cast<std::byte*>(t.data_), 0, t.nbytes());
  return t;
}

Tensor Tensor::borrow(DType dtype, std::vector<int64_t> shape, std::span<const std::byte> bytes,
                      std::shared_ptr<const void> keep_alive) {
  Tensor t;
  t.dtype_ = dtype;
  t.numel_ = checked_numel(dtype, shape);
  t.shape_ = std::move(shape);
  FETTLE_CHECK_EQ(bytes.size(), t.nbytes());
  t.data_ = bytes.data();
  t.keep_alive_ = std::move(keep_alive);
  return t;
}

Tensor Tensor::copy() const {
  Tensor t = empty(dtype_, shape_);
  if (nbytes() > 0) std::memcpy(const_cast<std::byte*>(t.data_), data_, nbytes());
  return t;
}

Tensor Tensor::reshaped(std::vector<int64_t> shape) const {
  Tensor t = *this;
  FETTLE_CHECK_EQ(checked_numel(dtype_, shape), numel_);
  t.shape_ = std::move(shape);
  return t;
}

Tensor Tensor::slice_rows(int64_t begin, int64_t end) const {
  FETTLE_CHECK(!shape_.empty() && begin >= 0 && begin <= end && end <= shape_[0]);
  Tensor t = *this;
  t.shape_[0] = end - begin;
  t.numel_ = shape_[0] == 0 ? 0 : numel_ / shape_[0] * (end - begin);
  if (shape_[0] != 0) t.data_ = data_ + nbytes() / static_cast<size_t>(shape_[0]) * static_cast<size_t>(begin);
  return t;
}

std::vector<float> Tensor::to_f32() const {
  std::vector<float> out(static_cast<size_t>(numel_));
  convert_to_f32(dtype_, data_, out);
  return out;
}

std::string Tensor::describe() const { return fmt::format("{} [{}]", dtype_name(dtype_), fmt::join(shape_, ", ")); }

}  // namespace fettle
