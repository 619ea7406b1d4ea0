#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/random.h"
#include "kernels/emulated_levels.h"
#include "kernels/exp2.h"
#include "kernels/isa_test_util.h"
#include "kernels/norm.h"
#include "kernels/rope.h"
#include "tensor/input_transform.h"

namespace fettle::kernels {
namespace {

using test::for_each_isa;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kSizes[] = {1, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 576, 4099};

std::vector<float> normals(size_t n, uint64_t seed, float scale = 1) {
  Random random(seed);
  std::vector<float> v(n);
  for (float& x : v) x = scale * random.normal();
  return v;
}

// Output with guards on both sides that no kernel may touch.
struct Guarded {
  std::vector<float> memory;
  explicit Guarded(size_t n) : memory(n + 32, -123.0f) {}
  std::span<float> span() { return {memory.data() + 16, memory.size() - 32}; }
  ~Guarded() {
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(memory[i], -123.0f);
      EXPECT_EQ(memory[memory.size() - 1 - i], -123.0f);
    }
  }
};

template <int kDegree>
void check_exp2_errors(double bound) {
  std::vector<float> x, y;
  for (float v = -126; v <= 127; v += 0.00390625f) x.push_back(v + 0.001f * static_cast<float>(x.size() % 3));
  for (float v : {-126.0f, 0.0f, -0.0f, 1.0f, 127.0f}) x.push_back(v);
  y.resize(x.size());
  exp2(x, kDegree, y);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] > 127) continue;
    worst = std::max(worst, std::fabs(y[i] / std::exp2(static_cast<double>(x[i])) - 1));
    ASSERT_EQ(y[i], exp2_reference<kDegree>(x[i])) << x[i];
  }
  EXPECT_LT(worst, bound);
  EXPECT_GT(worst, bound / 100);
}

TEST(Exp2, VectorLevelsEqualTheReferenceAndItsErrorBound) {
  for_each_isa([] {
    check_exp2_errors<3>(1e-4);
    check_exp2_errors<4>(4e-6);
    check_exp2_errors<5>(2e-7);
  });
}

TEST(Exp2, EdgeValues) {
  for_each_isa([] {
    const std::vector<float> x = {-kInf, -127.0f, -126.5f, -1e30f, 0.0f, kNaN, 200.0f};
    std::vector<float> y(x.size());
    for (int degree : {3, 4, 5}) {
      exp2(x, degree, y);
      for (size_t i = 0; i < 4; ++i) EXPECT_EQ(y[i], 0.0f);
      EXPECT_EQ(y[4], 1.0f);
      EXPECT_TRUE(std::isnan(y[5]));
      EXPECT_EQ(y[6], std::ldexp(1.0f, 127));
    }
  });
}

// Sum of squares of n terms: relative error at most n eps, half after the root; two more roundings of the products.
TEST(RmsNorm, MatchesDefinition) {
  for_each_isa([] {
    for (size_t cols : kSizes) {
      const auto x = normals(2 * cols, cols), w = normals(cols, cols + 1);
      for (NormWeight kind : {NormWeight::kPlain, NormWeight::kOnePlus}) {
        Guarded y(2 * cols);
        rms_norm({x.data(), 2, cols}, w, 1e-5f, kind, {y.span().data(), 2, cols});
        for (size_t r = 0; r < 2; ++r) {
          double squares = 0;
          for (size_t c = 0; c < cols; ++c) squares += std::pow(static_cast<double>(x[r * cols + c]), 2);
          const double inv = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
          for (size_t c = 0; c < cols; ++c) {
            const double want = x[r * cols + c] * inv * (kind == NormWeight::kOnePlus ? 1.0 + w[c] : w[c]);
            ASSERT_NEAR(y.span()[r * cols + c], want, std::fabs(want) * 4e-6 + 1e-12) << cols;
          }
        }
      }
    }
  });
}

TEST(RmsNorm, WorksInPlaceWithoutWeightAndKeepsNaN) {
  for_each_isa([] {
    std::vector<float> x = {3, 4, 0, 0};
    rms_norm({x.data(), 1, 4}, {}, 0, NormWeight::kPlain, {x.data(), 1, 4});
    EXPECT_FLOAT_EQ(x[0], 1.2f);
    EXPECT_FLOAT_EQ(x[1], 1.6f);
    std::vector<float> bad = {1, kNaN, 2};
    rms_norm({bad.data(), 1, 3}, {}, 0, NormWeight::kPlain, {bad.data(), 1, 3});
    for (float v : bad) EXPECT_TRUE(std::isnan(v));
  });
}

TEST(LayerNorm, MatchesDefinition) {
  for_each_isa([] {
    for (size_t cols : kSizes) {
      const auto x = normals(cols, cols), w = normals(cols, cols + 1), b = normals(cols, cols + 2);
      Guarded y(cols);
      layer_norm({x.data(), 1, cols}, w, b, 1e-5f, {y.span().data(), 1, cols});
      double mean = 0, variance = 0;
      for (float v : x) mean += v / static_cast<double>(cols);
      for (float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(cols);
      for (size_t c = 0; c < cols; ++c) {
        const double want = (x[c] - mean) / std::sqrt(variance + 1e-5) * w[c] + b[c];
        ASSERT_NEAR(y.span()[c], want, 1e-5 * (1 + std::fabs(want))) << cols;
      }
    }
  });
}

TEST(Rope, BothStylesMatchDefinitionWithPartialRotation) {
  for_each_isa([] {
    for (size_t half : {1, 2, 7, 16, 20, 64})
      for (size_t extra : {0, 3})
        for (RopeStyle style : {RopeStyle::kHalves, RopeStyle::kPairs}) {
          const size_t dim = 2 * half + extra, heads = 3, tokens = 2;
          std::vector<float> cos(5 * half), sin(5 * half);
          for (size_t i = 0; i < cos.size(); ++i) {
            cos[i] = std::cos(0.37f * static_cast<float>(i));
            sin[i] = std::sin(0.37f * static_cast<float>(i));
          }
          const auto before = normals(tokens * heads * dim, half);
          auto x = before;
          const std::vector<uint32_t> positions = {4, 1};
          rope({x.data(), tokens, heads * dim}, heads, positions, {cos.data(), 5, half}, {sin.data(), 5, half}, style);
          for (size_t t = 0; t < tokens; ++t)
            for (size_t h = 0; h < heads; ++h) {
              const size_t base = (t * heads + h) * dim;
              for (size_t i = 0; i < half; ++i) {
                const size_t a = style == RopeStyle::kHalves ? i : 2 * i,
                             b = style == RopeStyle::kHalves ? i + half : 2 * i + 1;
                const double c = cos[positions[t] * half + i], s = sin[positions[t] * half + i];
                ASSERT_NEAR(x[base + a], before[base + a] * c - before[base + b] * s, 2e-6);
                ASSERT_NEAR(x[base + b], before[base + b] * c + before[base + a] * s, 2e-6);
              }
              for (size_t d = 2 * half; d < dim; ++d) ASSERT_EQ(x[base + d], before[base + d]);
            }
        }
  });
}

TEST(Gated, MatchesDefinitionOverTheWholeRange) {
  for_each_isa([] {
    for (size_t cols : kSizes) {
      auto gate = normals(cols, cols, 4);
      gate[0] = -120;
      if (cols > 2) gate[2] = 150;
      const auto up = normals(cols, cols + 1);
      for (Gate kind : {Gate::kSilu, Gate::kGeluTanh}) {
        Guarded out(cols);
        gated_activation({gate.data(), 1, cols}, {up.data(), 1, cols}, kind, {out.span().data(), 1, cols});
        for (size_t c = 0; c < cols; ++c) {
          const double g = gate[c];
          const double silu = g / (1 + std::exp(-g));
          const double gelu = 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
          const double want = (kind == Gate::kSilu ? silu : gelu) * up[c];
          ASSERT_NEAR(out.span()[c], want, 2e-6 * std::fabs(want) + 1e-6 * std::fabs(up[c])) << g;
        }
      }
    }
  });
}

TEST(Elementwise, AddScaleSoftcap) {
  for_each_isa([] {
    for (size_t n : kSizes) {
      const auto a = normals(n, n, 40), b = normals(n, n + 1);
      Guarded sum(n), scaled(n), capped(n);
      add(a, b, sum.span());
      scale(a, 1.5f, scaled.span());
      softcap(a, 30.0f, capped.span());
      for (size_t i = 0; i < n; ++i) {
        ASSERT_EQ(sum.span()[i], a[i] + b[i]);
        ASSERT_EQ(scaled.span()[i], a[i] * 1.5f);
        ASSERT_NEAR(capped.span()[i], 30 * std::tanh(a[i] / 30.0), 1e-5);
      }
    }
  });
}

TEST(Softmax, MatchesDefinitionAndSumsToOne) {
  for_each_isa([] {
    for (size_t n : kSizes) {
      const auto x = normals(n, n, 5);
      Guarded y(n);
      softmax(x, 0.7f, y.span());
      double total = 0, top = -kInf, sum = 0, lse = 0;
      for (float v : x) top = std::max(top, static_cast<double>(v));
      for (float v : x) total += std::exp(0.7 * (v - top));
      for (size_t i = 0; i < n; ++i) {
        ASSERT_NEAR(y.span()[i], std::exp(0.7 * (x[i] - top)) / total, 2e-6 * y.span()[i] + 1e-12);
        sum += y.span()[i];
      }
      ASSERT_NEAR(sum, 1, 1e-6);
      for (float v : x) lse += std::exp(v - top);
      ASSERT_NEAR(log_sum_exp(x), top + std::log(lse), 2e-6 * (1 + std::fabs(top)));
    }
  });
}

TEST(Softmax, MasksAndNonFinite) {
  for_each_isa([] {
    for (size_t n : {1, 5, 16, 40}) {
      std::vector<float> hidden(n, -kInf), y(n);
      softmax(hidden, 1, y);
      for (float v : y) EXPECT_EQ(v, 0.0f);
      EXPECT_EQ(log_sum_exp(hidden), -kInf);
      for (float bad : {kNaN, kInf}) {
        std::vector<float> x(n, 0.5f);
        x[n / 2] = bad;
        softmax(x, 1, y);
        for (float v : y) EXPECT_TRUE(std::isnan(v));
        EXPECT_TRUE(std::isnan(log_sum_exp(x)));
      }
    }
    EXPECT_EQ(log_sum_exp({}), -kInf);
  });
}

TEST(ArgMax, LowestIdOnTiesAndCountsNonFinite) {
  for_each_isa([] {
    for (size_t n : kSizes) {
      auto x = normals(n, n);
      for (size_t at : {n - 1, n / 2, size_t{0}}) {
        x[at] = 50;  // ties with those set before
        const ArgMax r = argmax(x);
        EXPECT_EQ(r.id, at);
        EXPECT_EQ(r.value, 50);
        EXPECT_EQ(r.nonfinite, 0u);
      }
      std::fill(x.begin(), x.end(), -kInf);
      EXPECT_EQ(argmax(x).id, 0u);
      EXPECT_EQ(argmax(x).nonfinite, 0u);
      x[n / 2] = kNaN;
      EXPECT_EQ(argmax(x).nonfinite, 1u);
      x[n - 1] = kInf;
      EXPECT_EQ(argmax(x).id, n - 1);
      EXPECT_EQ(argmax(x).nonfinite, n - 1 == n / 2 ? 1u : 2u);
    }
  });
}

TEST(TopK, EqualsStableSortWithTiesAndNaN) {
  for_each_isa([] {
    std::vector<Candidate> got;
    for (size_t n : kSizes)
      for (size_t k : {size_t{0}, size_t{1}, size_t{3}, size_t{40}, n, n + 5}) {
        auto x = normals(n, n + k);
        for (float& v : x) v = std::round(v * 4) / 4;  // many ties
        if (n > 5) x[n / 3] = kNaN;
        if (n > 9) x[n / 4] = -kInf;
        std::vector<uint32_t> want;
        for (uint32_t i = 0; i < n; ++i)
          if (!std::isnan(x[i])) want.push_back(i);
        std::stable_sort(want.begin(), want.end(), [&](uint32_t a, uint32_t b) { return x[a] > x[b]; });
        want.resize(std::min(want.size(), k));
        top_k(x, k, got);
        ASSERT_EQ(got.size(), want.size());
        for (size_t i = 0; i < want.size(); ++i) {
          ASSERT_EQ(got[i].id, want[i]);
          ASSERT_EQ(got[i].value, x[want[i]]);
        }
      }
  });
}

TEST(Elementwise, AllLevelsGiveEqualBits) {
  for (size_t n : kSizes) {
    const auto x = normals(n, n, 3), w = normals(n, n + 1);
    std::vector<std::vector<float>> results;
    for_each_isa([&] {
      std::vector<float> y(4 * n);
      rms_norm({x.data(), 1, n}, w, 1e-6f, NormWeight::kPlain, {y.data(), 1, n});
      gated_activation({x.data(), 1, n}, {w.data(), 1, n}, Gate::kGeluTanh, {y.data() + n, 1, n});
      softmax(x, 1, {y.data() + 2 * n, n});
      softcap(x, 2, {y.data() + 3 * n, n});
      results.push_back(y);
    });
    for (const auto& r : results) EXPECT_EQ(std::memcmp(r.data(), results[0].data(), r.size() * 4), 0);
  }
}

// The definition in tensor/input_transform.cpp, bit for bit, at every level.
TEST(Elementwise, HadamardAndRotationHaveTheBitsOfTheDefinition) {
  const auto check = [&](const auto& hadamard_of, const auto& rotate_of) {
    for (size_t k = 1; k <= 1024; k *= 2)
      for (size_t blocks : {1, 2, 3, 7}) {
        const auto x = normals(k * blocks, k + blocks);
        std::vector<float> want = x, got(x.size());
        hadamard_blocks(want, static_cast<int64_t>(k));
        hadamard_of(x, k, got);
        EXPECT_EQ(std::memcmp(want.data(), got.data(), want.size() * 4), 0) << k << " x " << blocks;
      }
    for (size_t k : {1, 3, 16, 20, 33, 64}) {
      const auto x = normals(3 * k, k), m = normals(k * k, k + 1);
      InputTransform t;
      t.rotation = Tensor::from<float>(m, {static_cast<int64_t>(k), static_cast<int64_t>(k)});
      std::vector<float> want(x.size()), got(x.size());
      apply_input_transform(t, x, want);
      rotate_of(x, MatView<const float>(m.data(), k, k), got);
      EXPECT_EQ(std::memcmp(want.data(), got.data(), want.size() * 4), 0) << k;
    }
  };
  for_each_isa([&] {
    check([](const auto& x, size_t k, auto& y) { hadamard(x, k, y); },
          [](const auto& x, const MatView<const float>& m, auto& y) { rotate(x, m, y); });
  });
  if (supported_isas().size() < 2) return;
  const auto& wide = test::kEmulatedElementwise;
  check([&](const auto& x, size_t k,
            auto& y) { wide.hadamard(x.data(), x.size(), k, hadamard_factor(static_cast<int64_t>(k)), y.data()); },
        [&](const auto& x, const MatView<const float>& m, auto& y) {
          wide.rotate(x.data(), x.size(), m.rows, m.data, y.data());
        });
}

TEST(Elementwise, EmulatedAvx512GivesTheBitsOfTheReference) {
  if (supported_isas().size() < 2) GTEST_SKIP() << "needs AVX2";
  const auto& wide = test::kEmulatedElementwise;
  for (size_t n : kSizes) {
    const auto x = normals(n, n, 3), w = normals(n, n + 1);
    std::vector<float> want(n), got(n);
    const auto same = [&] { return std::memcmp(want.data(), got.data(), n * 4) == 0; };
    rms_norm({x.data(), 1, n}, w, 1e-6f, NormWeight::kOnePlus, {want.data(), 1, n});
    wide.rms_norm(x.data(), w.data(), 1e-6f, NormWeight::kOnePlus, n, got.data());
    EXPECT_TRUE(same());
    gated_activation({x.data(), 1, n}, {w.data(), 1, n}, Gate::kSilu, {want.data(), 1, n});
    wide.gated(x.data(), w.data(), Gate::kSilu, n, got.data());
    EXPECT_TRUE(same());
    softmax(x, 1, want);
    wide.softmax(x.data(), 1, n, got.data());
    EXPECT_TRUE(same());
    softcap(x, 2, want);
    wide.softcap(x.data(), 2, n, got.data());
    EXPECT_TRUE(same());
    EXPECT_EQ(wide.log_sum_exp(x.data(), n), log_sum_exp(x));
    EXPECT_EQ(wide.argmax(x.data(), n).id, argmax(x).id);
    for (float threshold : {0.0f, 1.0f, 9.0f})
      EXPECT_EQ(wide.find_greater(x.data(), n / 5, n, threshold),
                static_cast<size_t>(std::find_if(x.begin() + static_cast<ptrdiff_t>(n / 5), x.end(),
                                                 [&](float v) { return v > threshold; }) -
                                    x.begin()));
  }
}

}  // namespace
}  // namespace fettle::kernels
