#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "tensor/dtype.h"

namespace fettle {

// Row-major view of a matrix; rows may be padded (stride >= cols, in elements).
template <typename T>
struct MatView {
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;

  MatView() = default;
  MatView(T* p, size_t r, size_t c) : data(p), rows(r), cols(c), stride(c) {}
  MatView(T* p, size_t r, size_t c, size_t s) : data(p), rows(r), cols(c), stride(s) {}
  operator MatView<const T>() const requires(!std::is_const_v<T>) { return {data, rows, cols, stride}; }
  T* row(size_t r) const { return data + r * stride; }
  std::span<T> row_span(size_t r) const { return {data + r * stride, cols}; }
  MatView slice_rows(size_t begin, size_t end) const { return {data + begin * stride, end - begin, cols, stride}; }
  MatView slice_cols(size_t begin, size_t end) const { return {data + begin, rows, end - begin, stride}; }
};

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};

// Dense row-major storage that is owned (64-byte aligned) or points into memory kept alive by someone else, usually a
// mapped file. Copies share the bytes. Shape [] is a scalar.
class Tensor {
 public:
  Tensor() = default;
  // Owned, zero-filled.
  static Tensor zeros(DType dtype, std::vector<int64_t> shape);
  // Owned, uninitialised.
  static Tensor empty(DType dtype, std::vector<int64_t> shape);
  // Borrowed: `bytes` must hold exactly the tensor (kInternal otherwise) and stay alive as long as `keep_alive` does.
  static Tensor borrow(DType dtype, std::vector<int64_t> shape, std::span<const std::byte> bytes,
                       std::shared_ptr<const void> keep_alive);
  template <typename T>
  static Tensor from(std::span<const T> values, std::vector<int64_t> shape) {
    Tensor t = empty(DTypeOf<T>::value, std::move(shape));
    FETTLE_CHECK_EQ(static_cast<size_t>(t.numel()), values.size());
    std::copy(values.begin(), values.end(), t.mutable_data<T>());
    return t;
  }

  bool is_empty() const { return numel_ == 0; }
  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t dim(size_t i) const { return shape_.at(i); }
  size_t rank() const { return shape_.size(); }
  int64_t numel() const { return numel_; }
  size_t nbytes() const { return static_cast<size_t>(numel_) * dtype_bytes(dtype_); }
  std::span<const std::byte> bytes() const { return {data_, nbytes()}; }
  bool owned() const { return owned_; }
  const std::shared_ptr<const void>& keep_alive() const { return keep_alive_; }

  // Raw element pointer; T must have the element size (BF16/F16 as uint16_t, F8 as uint8_t). Borrowed bytes may be
  // unaligned for T: aligned_for<T>() tells; copy() gives an owned, aligned tensor.
  template <typename T>
  const T* data() const {
    FETTLE_CHECK_EQ(sizeof(T), dtype_bytes(dtype_));
    return reinterpret_cast<const T*>(data_);
  }
  template <typename T>
  T* mutable_data() {
    FETTLE_CHECK(owned_);
    FETTLE_CHECK_EQ(sizeof(T), dtype_bytes(dtype_));
    return reinterpret_cast<T*>(const_cast<std::byte*>(data_));
  }
  template <typename T>
  bool aligned_for() const {
    return reinterpret_cast<uintptr_t>(data_) % alignof(T) == 0;
  }

  Tensor copy() const;                                  // owned
  Tensor reshaped(std::vector<int64_t> shape) const;    // same bytes
  Tensor slice_rows(int64_t begin, int64_t end) const;  // first dimension, same bytes
  std::vector<float> to_f32() const;                    // any dtype
  std::string describe() const;                         // "BF16 [512, 256]"

 private:
  DType dtype_ = DType::kF32;
  std::vector<int64_t> shape_{0};
  int64_t numel_ = 0;
  const std::byte* data_ = nullptr;
  std::shared_ptr<const void> keep_alive_;
  bool owned_ = false;
};

}  // namespace fettle
