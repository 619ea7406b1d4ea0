#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tensor/convert.h"

namespace fettle {
namespace {

TEST(DType, NamesRoundTrip) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto t = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(dtype_name(t)), t);
    EXPECT_GE(dtype_bytes(t), 1u);
  }
  EXPECT_EQ(dtype_name(DType::kF8E4M3), "F8_E4M3");
  EXPECT_FALSE(parse_dtype("bf16").has_value());
  EXPECT_TRUE(is_float(DType::kF8E8M0));
  EXPECT_FALSE(is_float(DType::kBool));
}

TEST(Tensor, OwnsAlignedZeros) {
  Tensor t = Tensor::zeros(DType::kI32, {3, 5});
  EXPECT_EQ(t.numel(), 15);
  EXPECT_EQ(t.nbytes(), 60u);
  EXPECT_TRUE(t.owned());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data<int32_t>()) % 64, 0u);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(t.data<int32_t>()[i], 0);
  EXPECT_EQ(t.describe(), "I32 [3, 5]");
  EXPECT_EQ(Tensor::zeros(DType::kF32, {}).numel(), 1);
  EXPECT_TRUE(Tensor().is_empty());
}

TEST(Tensor, SharesSlicesAndCopies) {
  const std::vector<float> v = {1, 2, 3, 4, 5, 6};
  Tensor t = Tensor::from<float>(v, {3, 2});
  const Tensor middle = t.slice_rows(1, 2), flat = t.reshaped({6}), own = t.copy();
  t.mutable_data<float>()[2] = -3;
  EXPECT_EQ(middle.to_f32(), (std::vector<float>{-3, 4}));
  EXPECT_EQ(flat.to_f32()[2], -3);
  EXPECT_EQ(own.to_f32()[2], 3);
  EXPECT_EQ(t.slice_rows(3, 3).numel(), 0);
  EXPECT_THROW(t.slice_rows(2, 4), Error);
  EXPECT_THROW(t.reshaped({4}), Error);
  EXPECT_THROW(t.data<double>(), Error);
}

TEST(Tensor, BorrowsUnalignedBytes) {
  auto block = std::make_shared<std::vector<std::byte>>(9);
  const float x = 1.5f;
  std::memcpy(block->data() + 1, &x, 4);
  std::memcpy(block->data() + 5, &x, 4);
  const Tensor t = Tensor::borrow(DType::kF32, {2}, std::span(*block).subspan(1), block);
  EXPECT_FALSE(t.owned());
  EXPECT_EQ(t.to_f32(), (std::vector<float>{1.5f, 1.5f}));
  EXPECT_TRUE(t.copy().aligned_for<float>());
  EXPECT_THROW(Tensor::borrow(DType::kF32, {3}, std::span(*block), block), Error);
}

TEST(Tensor, RefusesOverflowingShapes) {
  EXPECT_THROW(Tensor::empty(DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}), Error);
  EXPECT_THROW(Tensor::empty(DType::kF32, {-1}), Error);
}

TEST(Convert, EveryDTypeToF32) {
  const auto one = [](DType t, auto raw) {
    float out = 0;
    convert_to_f32(t, reinterpret_cast<const std::byte*>(&raw), std::span(&out, 1));
    return out;
  };
  EXPECT_EQ(one(DType::kF64, 0.1), 0.1f);
  EXPECT_EQ(one(DType::kF32, 0.1f), 0.1f);
  EXPECT_EQ(one(DType::kF16, uint16_t{0x3C00}), 1.0f);
  EXPECT_EQ(one(DType::kBF16, uint16_t{0x3F80}), 1.0f);
  EXPECT_EQ(one(DType::kF8E4M3, uint8_t{0x7E}), 448.0f);
  EXPECT_EQ(one(DType::kF8E5M2, uint8_t{0x7B}), 57344.0f);
  EXPECT_EQ(one(DType::kF8E8M0, uint8_t{128}), 2.0f);
  EXPECT_EQ(one(DType::kI64, int64_t{-7}), -7.0f);
  EXPECT_EQ(one(DType::kU64, uint64_t{7}), 7.0f);
  EXPECT_EQ(one(DType::kI32, int32_t{-7}), -7.0f);
  EXPECT_EQ(one(DType::kU32, uint32_t{7}), 7.0f);
  EXPECT_EQ(one(DType::kI16, int16_t{-7}), -7.0f);
  EXPECT_EQ(one(DType::kU16, uint16_t{7}), 7.0f);
  EXPECT_EQ(one(DType::kI8, int8_t{-7}), -7.0f);
  EXPECT_EQ(one(DType::kU8, uint8_t{7}), 7.0f);
  EXPECT_EQ(one(DType::kBool, uint8_t{1}), 1.0f);
}

TEST(Convert, FromF32RoundTripsRepresentableValues) {
  const std::vector<float> x = {0.0f, -1.5f, 0.0625f, 96.0f};
  for (const DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    std::vector<std::byte> raw(x.size() * dtype_bytes(t));
    std::vector<float> back(x.size());
    convert_from_f32(x, t, raw.data());
    convert_to_f32(t, raw.data(), back);
    EXPECT_EQ(back, x) << dtype_name(t);
  }
  std::byte sink[8];
  EXPECT_THROW(convert_from_f32(std::span(x).first(1), DType::kI8, sink), Error);
}

}  // namespace
}  // namespace fettle
