#include <gtest/gtest.h>

#include <cstring>

#include "base/random.h"
#include "kernels/fx3_kernels.h"
#include "kernels/isa_test_util.h"
#include "kernels/matmul.h"
#include "kernels/matmul_driver.h"
#include "kernels/matmul_test_util.h"
#include "kernels/prepared.h"
#include "tensor/formats/fx3.h"

namespace fettle::kernels {
namespace {

// One weight in `rare` has any bits (no NaN in products), the others are gaussian.
Tensor weights(int64_t rows, int64_t cols, uint64_t rare, uint64_t seed) {
  Random r(seed);
  Tensor t = Tensor::empty(DType::kBF16, {rows, cols});
  for (int64_t i = 0; i < rows * cols; ++i) {
    const auto any = static_cast<uint16_t>(r.below(0x7F80) | r.below(2) << 15);
    t.mutable_data<uint16_t>()[i] = r.below(rare) == 0 ? any : formats::f32_to_bf16(0.02f * r.normal());
  }
  return t;
}

std::vector<uint32_t> product(const PreparedWeight& w, const std::vector<float>& x, size_t m, int threads) {
  ThreadPool pool(threads);
  MatmulScratch scratch;
  const auto n = static_cast<size_t>(w.rows()), k = static_cast<size_t>(w.cols());
  std::vector<float> y(m * n, 1.5f);
  matmul({x.data(), m, k}, w, ActMode::kA16, pool, scratch, {y.data(), m, n}, Store::kAdd);
  std::vector<uint32_t> bits(y.size());
  std::memcpy(bits.data(), y.data(), 4 * y.size());
  return bits;
}

TEST(Fx3Matmul, HasTheBitsOfTheBf16WeightOnEveryIsa) {
  ThreadPool pool(2);
  test::for_each_isa([&] {
    for (const int64_t cols : {1, 63, 64, 65, 1000, 1024, 1088, 4160})
      for (const int64_t rows : {1, 8, 27})
        for (const uint64_t rare : {uint64_t{2}, uint64_t{500}, uint64_t{1} << 40}) {
          const Tensor dense = weights(rows, cols, rare, 7);
          const PreparedWeight plain = prepare(dense_weight(dense), pool);
          const PreparedWeight packed = prepare(formats::fx3_from_bf16(dense, nullptr), pool);
          for (const size_t m : {1, 2, 5, 9}) {
            const std::vector<float> x = test::random_input(m, static_cast<size_t>(cols), 5);
            const auto want = product(plain, x, m, 1);
            ASSERT_EQ(product(packed, x, m, 1), want) << rows << "x" << cols << " m=" << m << " rare=" << rare;
            ASSERT_EQ(product(packed, x, m, 3), want) << rows << "x" << cols << " m=" << m << " three threads";
          }
        }
  });
}

// Items of 48 and 96 rows, several tables, a rest of fewer than eight rows.
TEST(Fx3Matmul, ManyRows) {
  ThreadPool pool(2);
  for (const int64_t rows : {805, 3103}) {
    const Tensor dense = weights(rows, 1088, 3000, 9);
    const PreparedWeight plain = prepare(dense_weight(dense), pool);
    const PreparedWeight packed = prepare(formats::fx3_from_bf16(dense, &pool), pool);
    const std::vector<float> x = test::random_input(1, 1088, 5);
    EXPECT_EQ(product(packed, x, 1, 2), product(plain, x, 1, 2)) << rows;
  }
}

TEST(Fx3Matmul, BatchesLargerThanATokenTile) {
  ThreadPool pool(2);
  const Tensor dense = weights(200, 1500, 30, 9);
  const PreparedWeight plain = prepare(dense_weight(dense), pool);
  const PreparedWeight packed = prepare(formats::fx3_from_bf16(dense, nullptr), pool);
  const std::vector<float> x = test::random_input(150, 1500, 5);
  EXPECT_EQ(product(packed, x, 150, 2), product(plain, x, 150, 2));
}

TEST(Fx3Matmul, RowsDecodeToTheirBits) {
  ThreadPool pool(1);
  test::for_each_isa([&] {
    for (const int64_t cols : {1, 64, 100, 4096, 5000}) {
      const Tensor dense = weights(6, cols, 5, 3);
      const PreparedWeight packed = prepare(formats::fx3_from_bf16(dense, nullptr), pool);
      const std::vector<int32_t> rows = {5, 0, 3};
      std::vector<float> out(rows.size() * static_cast<size_t>(cols)), want = out;
      const MatView<float> to(out.data(), rows.size(), static_cast<size_t>(cols));
      decode_rows(packed, rows, to);
      decode_rows(dense_weight(dense), rows, {want.data(), rows.size(), static_cast<size_t>(cols)});
      EXPECT_EQ(std::memcmp(out.data(), want.data(), 4 * out.size()), 0) << cols;
    }
  });
}

TEST(Fx3Matmul, EveryDecoderReadsEveryBitPattern) {
  Tensor dense = Tensor::empty(DType::kBF16, {1, 65536});
  for (size_t i = 0; i < 65536; ++i) dense.mutable_data<uint16_t>()[i] = static_cast<uint16_t>(i * 40503u);
  ThreadPool pool(1);
  const PreparedWeight w = prepare(formats::fx3_from_bf16(dense, nullptr), pool);
  test::for_each_isa([&] {
    std::vector<uint16_t> out(65536);
    fx3_decode_block(fx3_kernel(active_isa()), w.data(), 0, 0, out.size(), out.data());
    EXPECT_EQ(std::memcmp(out.data(), dense.bytes().data(), dense.nbytes()), 0);
  });
}

}  // namespace
}  // namespace fettle::kernels
