#include <gtest/gtest.h>

#include <cmath>

#include "tensor/formats/test_util.h"
#include "tensor/sinq/asinq.h"
#include "tensor/sinq/presinq.h"
#include "tensor/sinq/quantise.h"

namespace fettle::sinq {
namespace {

using formats::as_matrix;
using formats::gauss;

// Rows and columns of very different size.
std::vector<float> uneven(size_t rows, size_t cols, uint64_t seed) {
  std::vector<float> w = gauss(rows * cols, seed, 0.02f);
  const std::vector<float> r = gauss(rows, seed + 1), c = gauss(cols, seed + 2);
  for (size_t i = 0; i < w.size(); ++i) w[i] *= std::exp(0.7f * r[i / cols] + 0.7f * c[i % cols]);
  return w;
}

double error_of(const std::vector<float>& w, size_t cols, const Options& o) {
  const std::vector<float> d = dequantise(quantise(as_matrix(w, cols), o, nullptr));
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_TRUE(std::isfinite(d[i])) << i;
    sum += std::pow(static_cast<double>(d[i]) - static_cast<double>(w[i]), 2);
  }
  return sum;
}

TEST(Sinkhorn, ImbalanceNeverGrowsWithTheOrder) {
  const std::vector<float> w = uneven(48, 64, 1);
  double last = imbalance(as_matrix(w, 64));
  for (int order = 0; order <= 20; ++order) {
    const double now = sinkhorn(as_matrix(w, 64), {.order = order}).imbalance;
    EXPECT_LE(now, last);
    last = now;
  }
  EXPECT_LT(last, 0.3 * imbalance(as_matrix(w, 64)));
}

TEST(Sinkhorn, OrderOneIsTheIdentityAndGivesRtn) {
  const std::vector<float> w = uneven(24, 128, 2);
  Options one, rtn;
  one.sinkhorn.order = 1;
  rtn.balance = false;
  const Quantised a = quantise(as_matrix(w, 128), one, nullptr), b = quantise(as_matrix(w, 128), rtn, nullptr);
  EXPECT_EQ(a.codes, b.codes);
  EXPECT_EQ(a.scale, b.scale);
  EXPECT_EQ(a.zero, b.zero);
}

TEST(Sinq, BeatsRtnWhereRowsAndColumnsDiffer) {
  const std::vector<float> w = uneven(64, 256, 3);
  for (int bits : {2, 3, 4, 8}) {
    Options sinq, rtn;
    sinq.bits = rtn.bits = bits;
    rtn.balance = false;
    EXPECT_LT(error_of(w, 256, sinq), 0.8 * error_of(w, 256, rtn)) << bits;
  }
}

// Specs/04 acceptance 6: nothing breaks and nothing is worse than RTN by more than a little.
TEST(Sinq, OddShapesAndDeadParts) {
  const auto check = [](std::vector<float> w, size_t cols, const char* what) {
    SCOPED_TRACE(what);
    Options sinq, rtn;
    rtn.balance = false;
    EXPECT_LE(error_of(w, cols, sinq), 1.02 * error_of(w, cols, rtn) + 1e-12);
  };
  for (size_t cols : {172, 100, 33, 65}) check(uneven(40, cols, cols), cols, "ragged");
  check(uneven(1, 128, 5), 128, "one row");
  check(std::vector<float>(64 * 64, 0.25f), 64, "constant");
  std::vector<float> dead = uneven(48, 64, 6);
  for (size_t i = 0; i < 64; ++i) dead[5 * 64 + i] = 0;
  for (size_t i = 0; i < 48; ++i) dead[i * 64 + 9] = 0;
  check(dead, 64, "zero row and column");
  EXPECT_LT(sinkhorn(as_matrix(dead, 64)).imbalance, sinkhorn(as_matrix(dead, 64), {.robust = false}).imbalance);
}

TEST(Sinq, TinyWeightsAreBalancedInTheRobustMode) {
  std::vector<float> w = uneven(48, 64, 7), tiny = w;
  for (float& v : tiny) v *= 0x1p-20f;
  const SinkhornFactors a = sinkhorn(as_matrix(w, 64)), b = sinkhorn(as_matrix(tiny, 64));
  EXPECT_LT(b.imbalance, 1.5 * a.imbalance);
  EXPECT_GT(sinkhorn(as_matrix(tiny, 64), {.robust = false}).imbalance, 2 * b.imbalance);
}

TEST(Sinq, KurtosisGateFallsBackToRtn) {
  std::vector<float> w = gauss(64 * 64, 8);
  EXPECT_NEAR(kurtosis(as_matrix(w, 64)), 3.0, 0.2);
  w[7] = 40;
  Options gated;
  gated.kurtosis_gate = 5;
  EXPECT_FALSE(quantise(as_matrix(w, 64), gated, nullptr).balanced);
  EXPECT_EQ(quantise(as_matrix(w, 64), gated, nullptr).col[3], 1.0f);
}

TEST(Sinq, AnyThreadCountGivesTheSameBits) {
  const std::vector<float> w = uneven(64, 300, 9);
  ThreadPool pool(3);
  Options o;
  o.square_tiles = true;
  const Quantised a = quantise(as_matrix(w, 300), o, nullptr), b = quantise(as_matrix(w, 300), o, &pool);
  EXPECT_EQ(a.codes, b.codes);
  EXPECT_EQ(a.col, b.col);
}

TEST(Sinq, AuxiliaryQuantisationKeepsConstants) {
  const std::vector<float> v(64, 0.3f);
  EXPECT_EQ(dequantise_aux(quantise_aux(v, 32)), v);
  const std::vector<float> x = gauss(128, 10);
  const std::vector<float> y = dequantise_aux(quantise_aux(x, 128));
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 8.0 / 500);
}

TEST(ActivationAwareSinq, AlphaZeroIsSinqAndTheSearchIsNeverWorse) {
  const std::vector<float> w = uneven(32, 128, 11), x = uneven(40, 128, 12);
  std::vector<float> mean(128, 0.0f);
  for (size_t i = 0; i < x.size(); ++i) mean[i % 128] += std::fabs(x[i]) / 40;
  ThreadPool pool(2);
  const AwqResult r = asinq(as_matrix(w, 128), mean, as_matrix(x, 128), {}, {}, pool);
  const Quantised plain = quantise(as_matrix(w, 128), {}, nullptr);
  for (const double loss : r.losses) EXPECT_LE(r.losses[static_cast<size_t>(std::lround(r.alpha * 20))], loss);
  const std::vector<float> mu = column_factors(as_matrix(w, 128), 64, {}, &pool);
  const auto factors = asinq_factors(as_matrix(w, 128), mean, mu, AwqRule::kEffective);
  ASSERT_EQ(factors.size(), 20u);
  EXPECT_EQ(factors[0], mu);
  EXPECT_EQ(factors[static_cast<size_t>(std::lround(r.alpha * 20))], r.weight.col);
  if (r.alpha == 0) {
    EXPECT_EQ(r.weight.codes, plain.codes);
  }
}

TEST(PreSinq, ProductsStayTheSame) {
  const size_t hidden = 48, width = 96;
  std::vector<float> gate = uneven(width, hidden, 20), up = uneven(width, hidden, 21), down = uneven(hidden, width, 22),
                     q = uneven(hidden, hidden, 23), router = gauss(4 * hidden, 24), n1 = gauss(hidden, 25, 0.1f),
                     n2 = gauss(hidden, 26, 0.1f), bias = gauss(width, 27);
  const auto view = [](std::vector<float>& v, size_t cols) { return MatView<float>(v.data(), v.size() / cols, cols); };
  const std::vector<float> x = gauss(hidden, 28);
  const auto product = [&](const std::vector<float>& m, const std::vector<float>& in) {
    std::vector<double> y(m.size() / in.size());
    for (size_t i = 0; i < m.size(); ++i)
      y[i / in.size()] += static_cast<double>(m[i]) * static_cast<double>(in[i % in.size()]);
    return y;
  };
  const auto run = [&] {
    std::vector<float> a(hidden), b(hidden);
    for (size_t i = 0; i < hidden; ++i) {
      a[i] = x[i] * (1 + n1[i]);
      b[i] = x[i] * (1 + n2[i]);
    }
    std::vector<double> out = product(q, a), r = product(router, b);
    const std::vector<double> g = product(gate, b), u = product(up, b);
    std::vector<float> h(width);
    for (size_t i = 0; i < width; ++i)
      h[i] = static_cast<float>(g[i] / (1 + std::exp(-g[i])) * (u[i] + static_cast<double>(bias[i])));
    const std::vector<double> y = product(down, h);
    out.insert(out.end(), y.begin(), y.end());
    out.insert(out.end(), r.begin(), r.end());
    return out;
  };
  const std::vector<double> want = run();
  const std::vector<float> old = gate;
  FoldBlock block;
  block.attention = {n1, {view(q, hidden)}, 1};
  block.ffn = {n2, {view(gate, hidden), view(up, hidden), view(router, hidden)}, 2};
  block.experts = {{view(up, hidden), view(down, width), bias}};
  block.norm_plus_one = true;
  fold_block(block, {}, nullptr);
  const std::vector<double> got = run();
  double largest = 0;
  for (const double v : want) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5 * largest) << i;
  EXPECT_NE(old, gate);
}

TEST(PreSinq, TileThatDoesNotDivideTakesTheNearestDivisor) {
  std::vector<float> w = uneven(16, 172, 30);
  const MatView<const float> m = as_matrix(w, 172);
  EXPECT_EQ(fold_factors({&m, 1}, {.tile = 64}, nullptr), fold_factors({&m, 1}, {.tile = 43}, nullptr));
}

}  // namespace
}  // namespace fettle::sinq
