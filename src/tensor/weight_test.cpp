#include "tensor/weight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/thread_pool.h"
#include "tensor/formats/codecs.h"

namespace fettle {
namespace {

template <typename T>
Tensor raw(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  Tensor t = Tensor::empty(dtype, std::move(shape));
  EXPECT_EQ(t.nbytes(), values.size() * sizeof(T));
  std::memcpy(t.mutable_data<T>(), values.data(), t.nbytes());
  return t;
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Registry, RowsAreInEnumOrderWithUniqueNames) {
  std::set<std::string_view> names;
  for (const FormatInfo& info : all_formats()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(find_format(info.name), &info);
    EXPECT_EQ(&format_info(info.format), &info);
    EXPECT_EQ(info.kind == CodeKind::kTable16, info.table != nullptr) << info.name;
    EXPECT_EQ(info.encode == nullptr, info.encode_pool == nullptr) << info.name;
  }
  EXPECT_EQ(find_format("int5"), nullptr);
}

// [1, 5] int4 in groups of 2: the last group is short and the last byte half used.
TEST(PackedWeight, DecodesInt4ByHand) {
  PackedWeight w;
  w.format = Format::kInt4;
  w.rows = 1;
  w.cols = 5;
  w.group_size = 2;
  w.codes = raw<uint8_t>(DType::kU8, {1, 3}, {0x90, 0x8F, 0x0B});  // codes 0 9 | 15 8 | 11
  w.scales = raw<float>(DType::kF32, {1, 3}, {0.5f, 2.0f, -1.0f});
  EXPECT_EQ(decode(w), (std::vector<float>{-4.0f, 0.5f, 14.0f, 0.0f, -3.0f}));
  EXPECT_EQ(w.bytes(), 3u + 12u);
  EXPECT_DOUBLE_EQ(w.bits_per_weight(), 8.0 * 15 / 5);

  w.zero_points = raw<uint8_t>(DType::kU8, {1, 3}, {0, 8, 12});
  EXPECT_EQ(decode(w), (std::vector<float>{0.0f, 4.5f, 14.0f, 0.0f, 1.0f}));
}

TEST(PackedWeight, DecodesInt8WithZeroPoints) {
  PackedWeight w;
  w.format = Format::kInt8;
  w.rows = 2;
  w.cols = 2;
  w.group_size = 2;
  w.codes = raw<uint8_t>(DType::kU8, {2, 2}, {0, 255, 100, 3});
  w.scales = raw<uint16_t>(DType::kBF16, {2, 1}, {0x3F80, 0x4000});
  w.zero_points = raw<uint8_t>(DType::kU8, {2, 1}, {128, 3});
  EXPECT_EQ(decode(w), (std::vector<float>{-128, 127, 194, 0}));
}

TEST(PackedWeight, DecodesNvfp4WithTensorScale) {
  PackedWeight w;
  w.format = Format::kNvfp4;
  w.rows = 1;
  w.cols = 16;
  w.group_size = 16;
  w.codes = raw<uint8_t>(DType::kU8, {1, 8}, {0x17, 0xF8, 0, 0, 0, 0, 0, 0});
  w.scales = raw<uint8_t>(DType::kF8E4M3, {1, 1}, {0x40});
  w.tensor_scale = 0.25f;
  const std::vector<float> x = decode(w);
  EXPECT_EQ(x[0], 3.0f);
  EXPECT_EQ(x[1], 0.25f);
  EXPECT_EQ(x[2], 0.0f);
  EXPECT_EQ(x[3], -3.0f);
}

TEST(PackedWeight, DecodesSuperScalesAndMins) {
  PackedWeight w;
  w.format = Format::kQ4_K;
  w.rows = 1;
  w.cols = 256;
  w.group_size = 32;
  w.codes = raw<uint8_t>(DType::kU8, {1, 128}, std::vector<uint8_t>(128, 0xF1));
  w.scales = raw<uint8_t>(DType::kU8, {1, 8}, {1, 2, 3, 4, 5, 6, 7, 63});
  w.mins = raw<uint8_t>(DType::kU8, {1, 8}, {0, 1, 2, 3, 4, 5, 6, 7});
  w.super_scales = raw<uint16_t>(DType::kF16, {1, 1}, {formats::f32_to_f16(0.5f)});
  w.super_mins = raw<uint16_t>(DType::kF16, {1, 1}, {formats::f32_to_f16(2.0f)});
  const std::vector<float> x = decode(w);
  EXPECT_EQ(x[0], 0.5f);
  EXPECT_EQ(x[1], 7.5f);
  EXPECT_EQ(x[224], 63 * 0.5f - 14.0f);
  EXPECT_EQ(x[255], 63 * 0.5f * 15 - 14.0f);
  EXPECT_DOUBLE_EQ(w.bits_per_weight(), 8.0 * (128 + 8 + 8 + 4) / 256);
  EXPECT_DOUBLE_EQ(w.file_bits_per_weight(), 4.5);
  EXPECT_EQ(w.file_bytes(), 144u);
}

TEST(PackedWeight, CheckNamesTheWrongPart) {
  PackedWeight w;
  w.format = Format::kMxfp4;
  w.rows = 1;
  w.cols = 32;
  w.group_size = 32;
  w.codes = Tensor::zeros(DType::kU8, {1, 16});
  w.scales = Tensor::zeros(DType::kF8E8M0, {1, 1});
  check_packed(w);
  PackedWeight bad = w;
  bad.scales = Tensor::zeros(DType::kF16, {1, 1});
  EXPECT_THAT(message_of([&] { check_packed(bad); }),
              testing::HasSubstr("scales: expected F8_E8M0 [1, 1], found F16 [1, 1]"));
  bad = w;
  bad.codes = Tensor::zeros(DType::kU8, {1, 15});
  EXPECT_THAT(message_of([&] { check_packed(bad); }), testing::HasSubstr("codes"));
  bad = w;
  bad.group_size = 16;
  EXPECT_THAT(message_of([&] { check_packed(bad); }), testing::HasSubstr("group size 16"));
  bad = w;
  bad.mins = Tensor::zeros(DType::kF16, {1, 1});
  EXPECT_THAT(message_of([&] { check_packed(bad); }), testing::HasSubstr("mins: expected none"));
  bad = w;
  bad.zero_points = Tensor::zeros(DType::kU8, {1, 1});
  EXPECT_THAT(message_of([&] { check_packed(bad); }), testing::HasSubstr("zero points: expected none"));
}

TEST(PackedWeight, DenseWrapsWithoutCopy) {
  const std::vector<float> v = {1, 2, 3, 4, 5, 6};
  const Tensor t = Tensor::from<float>(v, {2, 3});
  const PackedWeight w = dense_weight(t);
  EXPECT_EQ(w.codes.bytes().data(), t.bytes().data());
  EXPECT_EQ(decode(w), v);
  EXPECT_DOUBLE_EQ(w.bits_per_weight(), 32.0);
  EXPECT_THROW(dense_weight(t.reshaped({6})), Error);
  EXPECT_THROW(dense_weight(Tensor::zeros(DType::kI8, {2, 3})), Error);
}

TEST(PackedWeight, DenseEncoders) {
  const std::vector<float> v = {1.0f, -2.5f, 65504.0f, 0.1f};
  ThreadPool pool(2);
  const MatView<const float> view(v.data(), 2, 2);
  EXPECT_EQ(decode(encode(format_info(Format::kF32), view, {}, pool)), v);
  EXPECT_EQ(decode(encode(format_info(Format::kF16), view, {}, pool))[2], 65504.0f);
  EXPECT_EQ(decode(encode(format_info(Format::kBF16), view, {}, pool))[3],
            formats::bf16_to_f32(formats::f32_to_bf16(0.1f)));
  const std::vector<float> big = {1.0f, 70000.0f};
  EXPECT_THAT(message_of([&] {
                format_info(Format::kF16).encode({big.data(), 1, 2}, {});
              }),
              testing::HasSubstr("use bf16"));
}

}  // namespace
}  // namespace fettle
