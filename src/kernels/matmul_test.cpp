#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <limits>

#include "base/cpu.h"
#include "kernels/isa_test_util.h"
#include "kernels/matmul_driver.h"
#include "kernels/matmul_test_util.h"
#include "kernels/prepared.h"
#include "kernels/roofline.h"
#include "tensor/input_transform.h"

namespace fettle::kernels {
namespace {

using test::for_each_isa;
using test::quantised_cases;
using test::WeightCase;

struct Problem {
  PackedWeight packed;
  PreparedWeight prepared;
  std::vector<float> x, y;
  size_t m, n, k;

  Problem(const WeightCase& c, size_t tokens, uint64_t seed) : packed(test::random_weight(c, seed)) {
    ThreadPool pool(1);
    prepared = prepare(packed, pool);
    m = tokens;
    n = static_cast<size_t>(c.rows);
    k = static_cast<size_t>(c.cols);
    x = test::random_input(m, k, seed);
  }
  std::vector<float> run(ActMode mode, int threads = 1) {
    ThreadPool pool(threads);
    MatmulScratch scratch;
    std::vector<float> out(m * n);
    matmul({x.data(), m, k}, prepared, mode, pool, scratch, {out.data(), m, n});
    return out;
  }
};

std::vector<uint32_t> bits(const std::vector<float>& v) {
  std::vector<uint32_t> out(v.size());
  if (!v.empty()) std::memcpy(out.data(), v.data(), v.size() * 4);
  return out;
}

// Weights without mins (scale part) and mins alone: the size of what is added up, for the error bound.
std::vector<double> magnitudes(const PackedWeight& w) {
  PackedWeight scaled = w;
  if (w.mins.numel() != 0) scaled.mins = Tensor::zeros(w.mins.dtype(), w.mins.shape());
  const std::vector<float> a = decode(scaled), b = decode(w);
  std::vector<double> out(a.size());
  for (size_t i = 0; i < a.size(); ++i)
    out[i] = std::fabs(static_cast<double>(a[i])) + std::fabs(static_cast<double>(b[i]) - static_cast<double>(a[i]));
  return out;
}

// Largest group scale of a row, for the rounding of the NF4 table.
double row_scale(const PackedWeight& w, size_t row) {
  double max = 0;
  const std::vector<float> s = w.scales.to_f32();
  const size_t groups = s.size() / static_cast<size_t>(w.rows);
  for (size_t g = 0; g < groups; ++g) max = std::max(max, std::fabs(static_cast<double>(s[row * groups + g])));
  return max;
}

void check_against_reference(const WeightCase& c, ActMode mode, size_t m) {
  Problem p(c, m, 1000 + static_cast<uint64_t>(c.cols));
  const FormatInfo& info = format_info(c.format);
  const bool integers = info.kind != CodeKind::kDense && info.kind != CodeKind::kE4M3;
  const bool words = c.format == Format::kNF4;
  const int limit = mode == ActMode::kA8 ? 127 : words ? 16383 : 32639;
  const std::vector<float> w = decode(p.packed);
  const std::vector<double> size = magnitudes(p.packed);
  const std::vector<float> got = p.run(mode);
  // One rounding per step of the fma chain, plus those of scales, factors and the final scale.
  const double steps =
      integers ? static_cast<double>(p.k) / 16 + static_cast<double>(p.packed.groups()) : static_cast<double>(p.k);
  const double eps = FLT_EPSILON * (integers ? steps + 8 : steps / 2 + 12);
  std::vector<double> a(p.k), half_step(p.k, 0.0);
  for (size_t t = 0; t < m; ++t) {
    const float* x = p.x.data() + t * p.k;
    if (integers) {
      test::quantise_acts(x, c.cols, c.group, limit, a.data(), half_step.data());
    } else {
      // vdpbf16ps rounds activations to bf16: 8 significant bits.
      const bool bf16 =
          c.format == Format::kBF16 && dense_kernels(active_isa()).act_form(DType::kBF16) == DenseForm::kBF16;
      for (size_t k = 0; k < p.k; ++k) {
        a[k] = bf16 ? formats::bf16_to_f32(formats::f32_to_bf16(x[k])) : x[k];
        half_step[k] = bf16 ? 0x1p-8 * std::fabs(static_cast<double>(x[k])) : 0.0;
      }
    }
    for (size_t n = 0; n < p.n; ++n) {
      double same = 0, plain = 0, sum = 0, acts = 0, rounding = 0;
      for (size_t k = 0; k < p.k; ++k) {
        const auto wk = static_cast<double>(w[n * p.k + k]);
        same += a[k] * wk;
        plain += static_cast<double>(x[k]) * wk;
        sum += std::fabs(a[k]) * size[n * p.k + k];
        acts += std::fabs(a[k]);
        rounding += half_step[k] * std::fabs(wk);
      }
      double tol = eps * sum + 1e-30;
      if (words) tol += 1.3e-4 * row_scale(p.packed, n) * acts;  // the 12-bit table, see prepare.cpp
      const auto y = static_cast<double>(got[t * p.n + n]);
      ASSERT_NEAR(y, same, tol) << test::describe(c) << " m=" << m << " t=" << t << " n=" << n;
      ASSERT_NEAR(y, plain, tol + rounding) << test::describe(c) << " against unrounded activations";
    }
  }
}

TEST(Matmul, EqualsDecodeThenMultiplyOnEveryIsa) {
  test::for_each_isa([&] {
    for (const WeightCase& c : quantised_cases())
      for (ActMode mode : {ActMode::kA16, ActMode::kA8})
        for (size_t m : {1, 6})
          if (check_against_reference(c, mode, m); ::testing::Test::HasFatalFailure()) return;
  });
}

TEST(Matmul, DenseEqualsPlainProductOnEveryIsa) {
  test::for_each_isa([&] {
    for (Format format : {Format::kF32, Format::kF16, Format::kBF16})
      for (int64_t cols : {1, 2, 7, 15, 16, 17, 31, 33, 64, 127, 256, 1024, 1031, 2049})
        for (int64_t rows : {1, 2, 3, 5, 8, 25, 100})
          for (size_t m : {1, 2, 5}) {
            check_against_reference({format, rows, cols, 0}, ActMode::kA16, m);
            if (::testing::Test::HasFatalFailure()) return;
          }
  });
}

// The one-row call is the definition: tiles of any height must give its bits, at any thread count and ISA level.
TEST(Matmul, RowsOfABatchHaveTheBitsOfSingleRows) {
  std::vector<WeightCase> cases = quantised_cases();
  for (Format format : {Format::kF32, Format::kF16, Format::kBF16}) cases.push_back({format, 29, 1100, 0});
  test::for_each_isa([&] {
    for (const WeightCase& c : cases)
      for (ActMode mode : {ActMode::kA16, ActMode::kA8}) {
        Problem p(c, 33, 5);
        const std::vector<float> full = p.run(mode);
        const std::vector<float> inputs = p.x;
        for (size_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 17}) {
          p.m = m;
          const size_t first = m == 1 ? 0 : 33 - m;
          p.x.assign(inputs.begin() + static_cast<std::ptrdiff_t>(first * p.k), inputs.end());
          const std::vector<float> part = p.run(mode);
          const std::vector<float> want(full.begin() + static_cast<std::ptrdiff_t>(first * p.n),
                                        full.begin() + static_cast<std::ptrdiff_t>((first + m) * p.n));
          ASSERT_EQ(bits(part), bits(want)) << test::describe(c) << " m=" << m;
        }
      }
  });
}

TEST(Matmul, AnyThreadCountGivesTheSameBits) {
  for (const WeightCase& c : {WeightCase{Format::kInt4, 333, 512, 64}, WeightCase{Format::kNvfp4, 900, 256, 16},
                              WeightCase{Format::kBF16, 333, 700, 0}, WeightCase{Format::kFp8, 333, 512, 512}})
    for (size_t m : {1, 150}) {
      Problem p(c, m, 11);
      const std::vector<float> one = p.run(ActMode::kA16, 1);
      for (int threads : {2, 3, 7}) EXPECT_EQ(bits(p.run(ActMode::kA16, threads)), bits(one)) << test::describe(c);
    }
}

TEST(Matmul, IntegerFormatsGiveTheSameBitsOnEveryIsa) {
  for (const WeightCase& c : quantised_cases())
    for (ActMode mode : {ActMode::kA16, ActMode::kA8})
      for (size_t m : {1, 7}) {
        Problem p(c, m, 21);
        force_isa(Isa::kScalar);
        const std::vector<float> want = p.run(mode);
        test::for_each_isa([&] { EXPECT_EQ(bits(p.run(mode)), bits(want)) << test::describe(c); });
      }
}

TEST(Matmul, ManyEqualsSeparateCalls) {
  const std::vector<WeightCase> cases = {{Format::kInt4, 40, 256, 64},  {Format::kBF16, 24, 256, 0},
                                         {Format::kInt4, 18, 256, 128}, {Format::kNvfp4, 50, 256, 16},
                                         {Format::kMxfp8, 20, 256, 32}, {Format::kF32, 20, 256, 0}};
  ThreadPool pool(2);
  MatmulScratch scratch;
  for (size_t m : {1, 3, 40}) {
    const std::vector<float> x = test::random_input(m, 256, 3);
    std::vector<PreparedWeight> weights;
    std::vector<std::vector<float>> got, want;
    for (const WeightCase& c : cases) {
      weights.push_back(prepare(test::random_weight(c, 9), pool));
      got.emplace_back(m * static_cast<size_t>(c.rows));
      want.emplace_back(m * static_cast<size_t>(c.rows));
    }
    std::vector<const PreparedWeight*> pointers;
    std::vector<MatView<float>> outs;
    for (size_t i = 0; i < cases.size(); ++i) {
      const auto n = static_cast<size_t>(cases[i].rows);
      pointers.push_back(&weights[i]);
      outs.emplace_back(got[i].data(), m, n);
      matmul({x.data(), m, 256}, weights[i], ActMode::kA16, pool, scratch, {want[i].data(), m, n});
    }
    matmul_many({x.data(), m, 256}, pointers, ActMode::kA16, pool, scratch, outs);
    EXPECT_EQ(got, want);
  }
}

// Column scales and block rotations on the way in: the product equals the one with rotated activations, whatever the
// batch, the threads, the ISA level and the company of other weights.
TEST(Matmul, InputTransformsAreAppliedToTheActivations) {
  const size_t k = 192, n = 40, m = 9;
  Random random(5);
  InputTransform scaled, hadamard, both, rotated;
  std::vector<float> s(k), r(48 * 48);
  for (float& v : s) v = 0.5f + static_cast<float>(random.uniform());
  for (float& v : r) v = random.normal() / 7;
  scaled.col_scales = both.col_scales = Tensor::from<float>(s, {static_cast<int64_t>(k)});
  hadamard.hadamard = both.hadamard = 64;
  rotated.rotation = Tensor::from<float>(r, {48, 48});
  const std::vector<float> x = test::random_input(m, k, 3);
  const MatView<const float> in(x.data(), m, k);
  for (const Format format : {Format::kInt4, Format::kNF4, Format::kNvfp4, Format::kFp8, Format::kBF16}) {
    const int64_t group = format == Format::kNvfp4 ? 16 : 64;
    PackedWeight plain = test::random_weight({format, static_cast<int64_t>(n), static_cast<int64_t>(k), group}, 8);
    ThreadPool one(1), three(3);
    MatmulScratch scratch;
    const PreparedWeight stored = prepare(plain, one);
    std::vector<PreparedWeight> weights;
    std::vector<std::vector<float>> want;
    for (const InputTransform* t : {&scaled, &hadamard, &both, &rotated, &hadamard}) {
      std::vector<float> moved(m * k), y(m * n);
      for (size_t i = 0; i < m; ++i) apply_input_transform(*t, in.row_span(i), std::span(moved).subspan(i * k, k));
      matmul({moved.data(), m, k}, stored, ActMode::kA16, one, scratch, {y.data(), m, n});
      want.push_back(y);
      PackedWeight w = plain;
      w.input = *t;
      weights.push_back(prepare(w, one));
    }
    for_each_isa([&] {
      std::vector<const PreparedWeight*> ws;
      std::vector<std::vector<float>> got(weights.size(), std::vector<float>(m * n));
      std::vector<MatView<float>> ys;
      for (size_t i = 0; i < weights.size(); ++i) {
        ws.push_back(&weights[i]);
        ys.emplace_back(got[i].data(), m, n);
      }
      matmul_many(in, ws, ActMode::kA16, three, scratch, ys);
      std::vector<float> single(n);
      for (size_t i = 0; i < weights.size(); ++i) {
        for (size_t t = 0; t < m; ++t) {
          matmul(in.slice_rows(t, t + 1), weights[i], ActMode::kA16, one, scratch, {single.data(), 1, n});
          EXPECT_EQ(std::memcmp(single.data(), got[i].data() + t * n, n * 4), 0) << i << ' ' << t;
        }
        if (format == Format::kInt4 || format == Format::kNF4 || format == Format::kNvfp4) {
          EXPECT_EQ(bits(got[i]), bits(want[i])) << format_info(format).name << ' ' << i;
        }
      }
    });
    // The lookup undoes the transform.
    std::vector<float> row(k), expected(k);
    for (const PreparedWeight& w : weights) {
      const int32_t ids[] = {7};
      decode_rows(w, ids, {row.data(), 1, k});
      PackedWeight packed = plain;
      packed.input = w.data().input;
      decode_row(packed, 7, expected);
      EXPECT_EQ(row, expected);
    }
  }
}

TEST(Matmul, WritesOnlyItsOutputAndCanAdd) {
  ThreadPool pool(2);
  MatmulScratch scratch;
  for (const WeightCase& c : {WeightCase{Format::kInt4, 19, 70, 32}, WeightCase{Format::kBF16, 19, 70, 0},
                              WeightCase{Format::kFp8, 19, 70, 70}}) {
    Problem p(c, 5, 31);
    const std::vector<float> want = p.run(ActMode::kA16);
    constexpr float kGuard = 12345.0f;
    const size_t stride = p.n + 3;
    std::vector<float> out((p.m + 2) * stride, kGuard);
    for (size_t t = 0; t < p.m; ++t) std::fill_n(out.data() + (t + 1) * stride, p.n, 0.5f);
    matmul({p.x.data(), p.m, p.k}, p.prepared, ActMode::kA16, pool, scratch, {out.data() + stride, p.m, p.n, stride},
           Store::kAdd);
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t row = i / stride, col = i % stride;
      const bool inside = row >= 1 && row <= p.m && col < p.n;
      EXPECT_EQ(out[i], inside ? 0.5f + want[(row - 1) * p.n + col] : kGuard) << i;
    }
  }
}

TEST(Matmul, NonFiniteActivationsGiveNonFiniteRows) {
  for (const WeightCase& c : {WeightCase{Format::kInt4, 20, 64, 32}, WeightCase{Format::kNF4, 20, 64, 32},
                              WeightCase{Format::kBF16, 20, 64, 0}, WeightCase{Format::kFp8, 20, 64, 64}})
    test::for_each_isa([&] {
      for (float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        Problem p(c, 3, 41);
        p.x[64 + 40] = bad;
        const std::vector<float> y = p.run(ActMode::kA16);
        for (size_t n = 0; n < 20; ++n) {
          EXPECT_TRUE(std::isfinite(y[n]) && std::isfinite(y[40 + n]));
          const float w = decode(p.packed)[n * 64 + 40];
          EXPECT_TRUE(!std::isfinite(y[20 + n]) || (w == 0 && std::isinf(bad)));
        }
      }
    });
}

TEST(Matmul, ExtremeActivationsStayFinite) {
  const float max = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min();
  test::for_each_isa([&] {
    Problem p({Format::kInt4, 3, 64, 32}, 2, 51);
    std::fill(p.x.begin(), p.x.end(), 0.0f);
    p.x[3] = max / 1024;
    p.x[64] = tiny;
    const std::vector<float> y = p.run(ActMode::kA16), w = decode(p.packed);
    for (size_t n = 0; n < 3; ++n) {
      EXPECT_NEAR(y[n], w[n * 64 + 3] * (max / 1024), std::fabs(w[n * 64 + 3]) * (max / 1024) * 1e-5f);
      EXPECT_EQ(y[3 + n], 0.0f);
    }
  });
}

TEST(Matmul, EmptyBatchesAndWeights) {
  ThreadPool pool(1);
  MatmulScratch scratch;
  const PreparedWeight w = prepare(test::random_weight({Format::kInt4, 4, 32, 32}, 1), pool);
  matmul({nullptr, 0, 32}, w, ActMode::kA16, pool, scratch, {nullptr, 0, 4});
  EXPECT_EQ(PreparedWeight().rows(), 0);
}

TEST(Prepare, DenseIsBorrowedAtAnyAlignment) {
  ThreadPool pool(1);
  MatmulScratch scratch;
  const PackedWeight aligned = test::random_weight({Format::kBF16, 9, 50, 0}, 4);
  const std::vector<float> x = test::random_input(2, 50, 4);
  std::vector<float> want(18), got(18);
  matmul({x.data(), 2, 50}, prepare(aligned, pool), ActMode::kA16, pool, scratch, {want.data(), 2, 9});
  for (size_t shift : {1, 3, 5}) {
    auto bytes = std::make_shared<std::vector<std::byte>>(aligned.codes.nbytes() + shift);
    std::memcpy(bytes->data() + shift, aligned.codes.bytes().data(), aligned.codes.nbytes());
    PackedWeight moved = aligned;
    moved.codes = Tensor::borrow(DType::kBF16, {9, 50}, std::span(*bytes).subspan(shift), bytes);
    const PreparedWeight w = prepare(moved, pool);
    EXPECT_TRUE(w.zero_copy());
    EXPECT_EQ(w.bytes(), size_t{9 * 50 * 2});
    matmul({x.data(), 2, 50}, w, ActMode::kA16, pool, scratch, {got.data(), 2, 9});
    EXPECT_EQ(got, want);
  }
}

TEST(Prepare, SizeStaysCloseToTheFormat) {
  ThreadPool pool(2);
  for (const WeightCase& c :
       {WeightCase{Format::kInt4, 1024, 2048, 64, DType::kBF16}, WeightCase{Format::kNvfp4, 1024, 2048, 16},
        WeightCase{Format::kMxfp4, 1024, 2048, 32}, WeightCase{Format::kQ4_K, 1024, 2048, 32},
        WeightCase{Format::kInt8, 1024, 2048, 2048}, WeightCase{Format::kFp8, 1000, 2048, 2048}}) {
    const PackedWeight w = test::random_weight(c, 6);
    const PreparedWeight p = prepare(w, pool);
    EXPECT_LE(static_cast<double>(p.bytes()), 1.02 * static_cast<double>(w.bytes())) << test::describe(c);
    EXPECT_EQ(p.rows(), c.rows);
    EXPECT_EQ(p.cols(), c.cols);
  }
}

TEST(Prepare, RefusesNanCodesAndScales) {
  ThreadPool pool(2);
  PackedWeight w = test::random_weight({Format::kMxfp4, 20, 64, 32}, 6);
  w.scales.mutable_data<uint8_t>()[39] = 255;
  EXPECT_THROW(prepare(w, pool), Error);
  w = test::random_weight({Format::kNvfp4, 20, 64, 16}, 6);
  w.scales.mutable_data<uint8_t>()[70] = 0xFF;
  EXPECT_THROW(prepare(w, pool), Error);
  w = test::random_weight({Format::kFp8, 20, 64, 64}, 6);
  w.codes.mutable_data<uint8_t>()[100] = 0x7F;
  EXPECT_THROW(prepare(w, pool), Error);
}

TEST(Roofline, EveryLevelReportsTheRatesItHas) {
  ThreadPool pool(1);
  const RooflineOptions options{.read_bytes = size_t{4} << 20, .repetitions = 3, .cpu_time = true};
  const Roofline scalar = measure_roofline(pool, Isa::kScalar, options);
  EXPECT_GT(scalar.read_gbs, 0.0);
  EXPECT_GT(scalar.f32_gflops, 0.0);
  EXPECT_EQ(scalar.int8_gops, 0.0);
  for (Isa isa : supported_isas()) {
    if (isa == Isa::kScalar) continue;
    const Roofline r = measure_roofline(pool, isa, options);
    EXPECT_GT(r.int8_gops, 0.0) << isa_name(isa);
    EXPECT_GT(r.int16_gops, 0.0);
    EXPECT_EQ(r.bf16_gflops > 0.0, isa == Isa::kAvx512Bf16);
  }
}

TEST(DecodeRows, MatchesTheFormatReference) {
  ThreadPool pool(1);
  std::vector<WeightCase> cases = quantised_cases();
  for (Format format : {Format::kF32, Format::kF16, Format::kBF16}) cases.push_back({format, 18, 77, 0});
  for (const WeightCase& c : cases) {
    const PackedWeight w = test::random_weight(c, 8);
    const PreparedWeight p = prepare(w, pool);
    const auto k = static_cast<size_t>(c.cols);
    const std::vector<int32_t> rows = {static_cast<int32_t>(c.rows - 1), 0, static_cast<int32_t>(c.rows / 2)};
    std::vector<float> got(3 * k), want(3 * k);
    decode_rows(p, rows, {got.data(), 3, k});
    decode_rows(w, rows, {want.data(), 3, k});
    EXPECT_EQ(got, want) << test::describe(c);  // compares values: 0 == -0
  }
  const PreparedWeight p = prepare(test::random_weight({Format::kInt4, 4, 32, 32}, 1), pool);
  std::vector<float> row(32);
  const int32_t outside = 4;
  EXPECT_THROW(decode_rows(p, {&outside, 1}, {row.data(), 1, 32}), Error);
}

}  // namespace
}  // namespace fettle::kernels
