// Runs the AVX-512 kernels on any machine: their sources compiled here with SIMDe's portable stand-ins for the
// intrinsics. Machines that have AVX-512 test the native builds in matmul_test.cpp as well.
#if __has_include(<simde/x86/avx512.h>)
#include "kernels/emulated_avx512.h"
#endif

#include <gtest/gtest.h>

#include <cfloat>
#include <cstring>

#include "base/checked.h"
#include "kernels/act_block.h"
#include "kernels/dense_kernels.h"
#include "kernels/matmul_driver.h"
#include "kernels/matmul_test_util.h"
#include "kernels/quant_kernels.h"
#include "tensor/formats/fx3.h"

#if __has_include(<simde/x86/avx512.h>)
namespace fettle::kernels {
namespace {

namespace emulated_avx512 {
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/quant_body_inl.h"
}  // namespace emulated_avx512
namespace emulated_vnni {
#define FETTLE_VNNI 1
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/quant_body_inl.h"
#undef FETTLE_VNNI
}  // namespace emulated_vnni
namespace emulated_dense {
#include "kernels/x86/dense_vec_avx512.h"
#include "kernels/x86/fx3_vec_avx512.h"

#include "kernels/x86/dense_body_inl.h"
#include "kernels/x86/fx3_body_inl.h"
}  // namespace emulated_dense
namespace emulated_bf16 {
#define FETTLE_BF16_DOT 1
#include "kernels/x86/dense_vec_avx512.h"
#include "kernels/x86/fx3_vec_avx512.h"

#include "kernels/x86/dense_body_inl.h"
#include "kernels/x86/fx3_body_inl.h"
#undef FETTLE_BF16_DOT
}  // namespace emulated_bf16

const Fx3Kernel kFx3{"avx512", Isa::kAvx512, &emulated_dense::fx3_decode, &emulated_dense::fx3_dot};
const Fx3Kernel kFx3Bf16{"avx512_bf16", Isa::kAvx512Bf16, &emulated_bf16::fx3_decode, &emulated_bf16::fx3_dot};

const QuantKernels kAvx512{"avx512",
                           Isa::kAvx512,
                           8,
                           &emulated_avx512::act_form,
                           &emulated_avx512::pack_acts,
                           &emulated_avx512::widen,
                           &emulated_avx512::scale_groups,
                           &emulated_avx512::unpack,
                           &emulated_avx512::dot,
                           &emulated_avx512::unpack_fp8,
                           &emulated_avx512::fp8};
const QuantKernels kVnni{"avx512_vnni",
                         Isa::kAvx512Vnni,
                         8,
                         &emulated_vnni::act_form,
                         &emulated_vnni::pack_acts,
                         &emulated_vnni::widen,
                         &emulated_vnni::scale_groups,
                         &emulated_vnni::unpack,
                         &emulated_vnni::dot,
                         &emulated_vnni::unpack_fp8,
                         &emulated_vnni::fp8};
const DenseKernels kDense{"avx512", Isa::kAvx512, &emulated_dense::act_form, &emulated_dense::pack_acts,
                          &emulated_dense::dot};
const DenseKernels kBf16{"avx512_bf16", Isa::kAvx512Bf16, &emulated_bf16::act_form, &emulated_bf16::pack_acts,
                         &emulated_bf16::dot};

std::vector<float> run(const KernelSet& kernels, const PreparedWeight& w, const std::vector<float>& x, size_t m,
                       ActMode mode) {
  ThreadPool pool(1);
  MatmulScratch scratch;
  const auto n = static_cast<size_t>(w.rows()), k = static_cast<size_t>(w.cols());
  std::vector<float> y(m * n);
  const PreparedWeight* const weight = &w;
  const MatView<float> out{y.data(), m, n};
  matmul_with(kernels, {x.data(), m, k}, {&weight, 1}, mode, pool, scratch, {&out, 1}, Store::kOverwrite);
  return y;
}

std::vector<uint32_t> bits(const std::vector<float>& v) {
  std::vector<uint32_t> out(v.size());
  std::memcpy(out.data(), v.data(), v.size() * 4);
  return out;
}

TEST(EmulatedAvx512, IntegerFormatsHaveTheBitsOfTheScalarLevel) {
  ThreadPool pool(1);
  for (const test::WeightCase& c : test::quantised_cases()) {
    const PreparedWeight w = prepare(test::random_weight(c, 3), pool);
    for (size_t m : {1, 3, 15}) {
      const std::vector<float> x = test::random_input(m, static_cast<size_t>(c.cols), 5);
      for (ActMode mode : {ActMode::kA16, ActMode::kA8}) {
        const std::vector<uint32_t> want = bits(run({scalar_quant_kernels(), kDense}, w, x, m, mode));
        EXPECT_EQ(bits(run({kAvx512, kDense}, w, x, m, mode)), want) << test::describe(c) << " avx512 m=" << m;
        EXPECT_EQ(bits(run({kVnni, kDense}, w, x, m, mode)), want) << test::describe(c) << " vnni m=" << m;
      }
    }
  }
}

// One weight in `rare` has any bits but those of NaN, the others are gaussian.
Tensor mixed_weights(int64_t rows, int64_t cols, uint64_t rare, uint64_t seed) {
  Random r(seed);
  Tensor t = Tensor::empty(DType::kBF16, {rows, cols});
  for (int64_t i = 0; i < rows * cols; ++i) {
    const uint16_t any = static_cast<uint16_t>(r.below(0x7F80) | r.below(2) << 15);
    t.mutable_data<uint16_t>()[i] = r.below(rare) == 0 ? any : formats::f32_to_bf16(0.02f * r.normal());
  }
  return t;
}

TEST(EmulatedAvx512, Fx3HasTheBitsOfDenseWeights) {
  ThreadPool pool(1);
  const KernelSet sets[] = {{scalar_quant_kernels(), kDense, &kFx3}, {scalar_quant_kernels(), kBf16, &kFx3Bf16}};
  // 12: too many exceptions to be fused; 500: some in most blocks.
  for (const uint64_t rare : {uint64_t{12}, uint64_t{500}, uint64_t{1} << 40})
    for (const int64_t cols : {1, 63, 64, 100, 1024, 1100, 4160}) {
      const Tensor dense = mixed_weights(11, cols, rare, 4);
      const PreparedWeight plain = prepare(dense_weight(dense), pool);
      const PreparedWeight packed = prepare(formats::fx3_from_bf16(dense, nullptr), pool);
      for (const KernelSet& set : sets)
        for (const size_t m : {1, 3, 9}) {
          const std::vector<float> x = test::random_input(m, static_cast<size_t>(cols), 5);
          EXPECT_EQ(bits(run(set, packed, x, m, ActMode::kA16)), bits(run(set, plain, x, m, ActMode::kA16)))
              << set.fx3->name << " cols=" << cols << " m=" << m << " rare=" << rare;
        }
    }
}

float round_bf16(float v) { return formats::bf16_to_f32(formats::f32_to_bf16(v)); }

TEST(EmulatedAvx512, DenseIsCloseToTheExactProductAndBatchesEqualSingleRows) {
  ThreadPool pool(1);
  for (const DenseKernels* kernels : {&kDense, &kBf16})
    for (Format format : {Format::kF32, Format::kF16, Format::kBF16})
      for (int64_t cols : {1, 31, 32, 33, 64, 1024, 1100})
        for (int64_t rows : {1, 6, 8, 25}) {
          const PackedWeight packed = test::random_weight({format, rows, cols, 0}, 3);
          const PreparedWeight w = prepare(packed, pool);
          const std::vector<float> values = decode(packed);
          const auto n = static_cast<size_t>(rows), k = static_cast<size_t>(cols);
          const size_t m = 7;
          const std::vector<float> x = test::random_input(m, k, 5);
          const KernelSet set{scalar_quant_kernels(), *kernels};
          const std::vector<float> y = run(set, w, x, m, ActMode::kA16);
          const bool rounded =
              kernels->act_form(w.format() == Format::kBF16 ? DType::kBF16 : DType::kF32) == DenseForm::kBF16;
          for (size_t t = 0; t < m; ++t) {
            const std::vector<float> row(x.begin() + static_cast<std::ptrdiff_t>(t * k),
                                         x.begin() + static_cast<std::ptrdiff_t>((t + 1) * k));
            const std::vector<float> single = run(set, w, row, 1, ActMode::kA16);
            for (size_t i = 0; i < n; ++i) {
              double want = 0, size = 0;
              for (size_t j = 0; j < k; ++j) {
                const double p =
                    static_cast<double>(rounded ? round_bf16(row[j]) : row[j]) * static_cast<double>(values[i * k + j]);
                want += p;
                size += std::fabs(p);
              }
              ASSERT_EQ(y[t * n + i], single[i]);
              ASSERT_NEAR(y[t * n + i], want, size * FLT_EPSILON * (static_cast<double>(k) / 8 + 8))
                  << kernels->name << ' ' << format_info(format).name << ' ' << rows << 'x' << cols;
            }
          }
        }
}

}  // namespace
}  // namespace fettle::kernels
#else
TEST(EmulatedAvx512, DISABLED_NeedsSimde) {}
#endif
