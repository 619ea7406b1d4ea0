#include "kernels/elementwise.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/cpu.h"
#include "base/error.h"
#include "kernels/elementwise_table.h"
#include "kernels/exp2.h"
#include "kernels/norm.h"
#include "kernels/rope.h"
#include "tensor/input_transform.h"

namespace fettle::kernels {
namespace {

const detail::ElementwiseKernels& level() {
#if defined(__x86_64__)
  if (active_isa() >= Isa::kAvx512) return detail::kElementwiseAvx512;
  if (active_isa() == Isa::kAvx2) return detail::kElementwiseAvx2;
#endif
  return detail::kElementwiseScalar;
}

template <typename A, typename B>
void check_same_shape(const MatView<A>& a, const MatView<B>& b) {
  FETTLE_CHECK_EQ(a.rows, b.rows);
  FETTLE_CHECK_EQ(a.cols, b.cols);
}

bool better(const Candidate& a, const Candidate& b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

}  // namespace

void exp2(std::span<const float> x, int degree, std::span<float> y) {
  FETTLE_CHECK(degree >= 3 && degree <= 5);
  FETTLE_CHECK_EQ(x.size(), y.size());
  level().exp2(x.data(), x.size(), degree, y.data());
}

void rms_norm(MatView<const float> x, std::span<const float> w, float eps, NormWeight kind, MatView<float> y) {
  check_same_shape(x, y);
  FETTLE_CHECK(w.empty() || w.size() == x.cols);
  for (size_t r = 0; r < x.rows; ++r)
    level().rms_norm(x.row(r), w.empty() ? nullptr : w.data(), eps, kind, x.cols, y.row(r));
}

void layer_norm(MatView<const float> x, std::span<const float> w, std::span<const float> b, float eps,
                MatView<float> y) {
  check_same_shape(x, y);
  FETTLE_CHECK(w.empty() || w.size() == x.cols);
  FETTLE_CHECK(b.empty() || b.size() == x.cols);
  for (size_t r = 0; r < x.rows; ++r)
    level().layer_norm(x.row(r), w.empty() ? nullptr : w.data(), b.empty() ? nullptr : b.data(), eps, x.cols, y.row(r));
}

void rope(MatView<float> x, size_t heads, std::span<const uint32_t> positions, MatView<const float> cos,
          MatView<const float> sin, RopeStyle style) {
  FETTLE_CHECK(heads > 0 && x.cols % heads == 0);
  FETTLE_CHECK_EQ(positions.size(), x.rows);
  check_same_shape(cos, sin);
  const size_t head_dim = x.cols / heads;
  FETTLE_CHECK(2 * cos.cols <= head_dim);
  const auto kernel = style == RopeStyle::kHalves ? level().rope_halves : level().rope_pairs;
  for (size_t t = 0; t < x.rows; ++t) {
    FETTLE_CHECK(positions[t] < cos.rows);
    for (size_t h = 0; h < heads; ++h)
      kernel(x.row(t) + h * head_dim, cos.row(positions[t]), sin.row(positions[t]), cos.cols);
  }
}

void gated_activation(MatView<const float> gate, MatView<const float> up, Gate kind, MatView<float> out) {
  check_same_shape(gate, up);
  check_same_shape(gate, out);
  for (size_t r = 0; r < gate.rows; ++r) level().gated(gate.row(r), up.row(r), kind, gate.cols, out.row(r));
}

void add(std::span<const float> a, std::span<const float> b, std::span<float> out) {
  FETTLE_CHECK(a.size() == b.size() && a.size() == out.size());
  level().add(a.data(), b.data(), a.size(), out.data());
}

void scale(std::span<const float> x, float factor, std::span<float> out) {
  FETTLE_CHECK_EQ(x.size(), out.size());
  level().scale(x.data(), factor, x.size(), out.data());
}

void mul(std::span<const float> a, std::span<const float> b, std::span<float> out) {
  FETTLE_CHECK(a.size() == b.size() && a.size() == out.size());
  level().mul(a.data(), b.data(), a.size(), out.data());
}

void hadamard(std::span<const float> x, size_t k, std::span<float> out) {
  FETTLE_CHECK_EQ(x.size(), out.size());
  FETTLE_CHECK(std::has_single_bit(k) && x.size() % k == 0);
  level().hadamard(x.data(), x.size(), k, hadamard_factor(static_cast<int64_t>(k)), out.data());
}

void rotate(std::span<const float> x, MatView<const float> m, std::span<float> out) {
  FETTLE_CHECK_EQ(x.size(), out.size());
  FETTLE_CHECK(m.rows > 0 && m.rows == m.cols && m.stride == m.cols && x.size() % m.rows == 0);
  level().rotate(x.data(), x.size(), m.rows, m.data, out.data());
}

void transform_rows(const InputTransform& t, MatView<const float> x, MatView<float> out) {
  check_same_shape(x, out);
  const bool scaled = !t.col_scales.is_empty();
  std::vector<float> row(t.rotation.is_empty() || !scaled ? 0 : x.cols);
  for (size_t r = 0; r < x.rows; ++r) {
    std::span<const float> from = x.row_span(r);
    if (scaled) {
      const std::span<float> to = row.empty() ? out.row_span(r) : std::span<float>(row);
      mul(from, {t.col_scales.data<float>(), x.cols}, to);
      from = to;
    }
    if (t.hadamard > 1) hadamard(from, static_cast<size_t>(t.hadamard), out.row_span(r));
    if (!t.rotation.is_empty()) {
      const auto k = static_cast<size_t>(t.rotation.dim(0));
      rotate(from, {t.rotation.data<float>(), k, k}, out.row_span(r));
    }
  }
}

void softcap(std::span<const float> x, float cap, std::span<float> out) {
  FETTLE_CHECK(cap > 0);
  FETTLE_CHECK_EQ(x.size(), out.size());
  level().softcap(x.data(), cap, x.size(), out.data());
}

void softmax(std::span<const float> x, float factor, std::span<float> y) {
  FETTLE_CHECK_EQ(x.size(), y.size());
  level().softmax(x.data(), factor, x.size(), y.data());
}

float log_sum_exp(std::span<const float> x) { return level().log_sum_exp(x.data(), x.size()); }

ArgMax argmax(std::span<const float> x) { return level().argmax(x.data(), x.size()); }

void top_k(std::span<const float> x, size_t k, std::vector<Candidate>& out) {
  out.clear();
  if (k == 0) return;
  size_t i = 0;
  for (; i < x.size() && out.size() < k; ++i)
    if (x[i] == x[i]) out.push_back({static_cast<uint32_t>(i), x[i]});
  // A heap whose front is the worst kept candidate. Ids ascend, so an equal value never replaces a kept one.
  std::make_heap(out.begin(), out.end(), better);
  const auto find = level().find_greater;
  while (out.size() == k && (i = find(x.data(), i, x.size(), out.front().value)) < x.size()) {
    std::pop_heap(out.begin(), out.end(), better);
    out.back() = {static_cast<uint32_t>(i), x[i]};
    std::push_heap(out.begin(), out.end(), better);
    ++i;
  }
  std::sort_heap(out.begin(), out.end(), better);
}

}  // namespace fettle::kernels
