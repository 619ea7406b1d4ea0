#include "tensor/input_transform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tensor/formats/codecs.h"
#include "tensor/formats/test_util.h"

namespace fettle {
namespace {

using formats::gauss;

Tensor vector_of(const std::vector<float>& v) { return Tensor::from<float>(v, {static_cast<int64_t>(v.size())}); }

TEST(InputTransform, HadamardByHandAndItsOwnInverse) {
  std::vector<float> x = {1, 2, 3, 4, 0, 1, 0, 0};
  hadamard_blocks(x, 4);
  EXPECT_EQ(x, (std::vector<float>{5, -1, -2, 0, 0.5, -0.5, 0.5, -0.5}));
  for (int64_t k : {1, 2, 16, 128}) {
    const std::vector<float> start = gauss(384 / 3 * 3, 1);
    std::vector<float> y = start;
    hadamard_blocks(y, k);
    hadamard_blocks(y, k);
    for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], start[i], 2e-6) << k;
  }
}

// y = x . W^T must not depend on where the factors sit.
TEST(InputTransform, StoredSpaceAndTransformedInputsGiveTheSameProduct) {
  const size_t k = 96;
  InputTransform scaled, both, dct;
  std::vector<float> s = gauss(k, 3), m(24 * 24);
  for (float& v : s) v = 0.5f + std::fabs(v);
  for (size_t i = 0; i < 24; ++i)
    for (size_t j = 0; j < 24; ++j)
      m[i * 24 + j] = static_cast<float>(std::cos(M_PI / 24 * (static_cast<double>(i) + 0.5) * static_cast<double>(j)) *
                                         std::sqrt((j == 0 ? 1.0 : 2.0) / 24));
  scaled.col_scales = both.col_scales = vector_of(s);
  both.hadamard = 32;
  dct.rotation = Tensor::from<float>(m, {24, 24});
  const std::vector<float> w = gauss(k, 4), x = gauss(k, 5);
  const double want = std::inner_product(w.begin(), w.end(), x.begin(), 0.0);
  for (const InputTransform* t : {&scaled, &both, &dct}) {
    std::vector<float> stored = w, moved(k), back;
    to_stored_space(*t, stored);
    apply_input_transform(*t, x, moved);
    EXPECT_NEAR(std::inner_product(stored.begin(), stored.end(), moved.begin(), 0.0), want, 1e-4);
    back = stored;
    undo_input_transform(*t, back);
    for (size_t i = 0; i < k; ++i) ASSERT_NEAR(back[i], w[i], 1e-5);
  }
}

TEST(InputTransform, DecodeReturnsTheWeightForPlainActivations) {
  const std::vector<float> w = gauss(4 * 64, 6);
  PackedWeight p = format_info(Format::kF32).encode({w.data(), 4, 64}, {});
  const size_t plain = p.bytes();
  std::vector<float> s(64, 2.0f);
  p.input.col_scales = vector_of(s);
  const std::vector<float> got = decode(p);
  for (size_t i = 0; i < w.size(); ++i) EXPECT_EQ(got[i], 2 * w[i]);
  EXPECT_EQ(p.bytes(), plain + 256);
  std::vector<float> row(64);
  decode_stored_row(p, 1, row);
  EXPECT_EQ(row[5], w[64 + 5]);
}

TEST(InputTransform, RecognisesHadamardMatricesInBf16) {
  const int64_t k = 32;
  Tensor m = Tensor::empty(DType::kBF16, {k, k});
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < k; ++j)
      m.mutable_data<uint16_t>()[i * k + j] =
          formats::f32_to_bf16(hadamard_factor(k) * (__builtin_popcountll(static_cast<uint64_t>(i & j)) % 2 ? -1 : 1));
  EXPECT_EQ(block_rotation(m).hadamard, 32);
  // One column negated: orthogonal, but no longer Sylvester's.
  for (int64_t i = 0; i < k; ++i) m.mutable_data<uint16_t>()[i * k + 3] ^= 0x8000;
  const InputTransform t = block_rotation(m);
  EXPECT_EQ(t.hadamard, 0);
  EXPECT_EQ(std::fabs(t.rotation.data<float>()[7]), hadamard_factor(k));
}

TEST(InputTransform, CheckNamesWhatIsWrong) {
  PackedWeight p = format_info(Format::kF32).encode({gauss(48, 1).data(), 1, 48}, {});
  p.input.hadamard = 32;
  EXPECT_THAT(formats::message_of([&] { check_packed(p); }), testing::HasSubstr("divides 48 columns"));
  p.input.hadamard = 0;
  p.input.col_scales = vector_of(std::vector<float>(47));
  EXPECT_THAT(formats::message_of([&] { check_packed(p); }), testing::HasSubstr("expected F32 [48]"));
  p.input.col_scales = {};
  p.input.rotation = Tensor::zeros(DType::kF32, {5, 5});
  EXPECT_THAT(formats::message_of([&] { check_packed(p); }), testing::HasSubstr("rotation"));
}

}  // namespace
}  // namespace fettle
