#include "tensor/input_transform.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace fettle {
namespace {

bool power_of_two(int64_t k) { return k > 0 && std::has_single_bit(static_cast<uint64_t>(k)); }

// Every block b of the row becomes b . M (or b . M^T), sums in order of the input index.
void rotate_blocks(const Tensor& rotation, bool transposed, std::span<float> row) {
  const auto k = static_cast<size_t>(rotation.dim(0));
  const float* m = rotation.data<float>();
  std::vector<float> out(k);
  for (size_t begin = 0; begin < row.size(); begin += k) {
    for (size_t j = 0; j < k; ++j) {
      float sum = 0;
      for (size_t i = 0; i < k; ++i) sum = std::fma(row[begin + i], transposed ? m[j * k + i] : m[i * k + j], sum);
      out[j] = sum;
    }
    std::copy(out.begin(), out.end(), row.begin() + static_cast<ptrdiff_t>(begin));
  }
}

void rotate(const InputTransform& t, bool transposed, std::span<float> row) {
  if (t.hadamard > 1) hadamard_blocks(row, t.hadamard);
  if (!t.rotation.is_empty()) rotate_blocks(t.rotation, transposed, row);
}

}  // namespace

float hadamard_factor(int64_t k) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(k))); }

void hadamard_blocks(std::span<float> x, int64_t k) {
  const auto size = static_cast<size_t>(k);
  FETTLE_CHECK(power_of_two(k) && x.size() % size == 0);
  for (size_t h = 1; h < size; h *= 2)
    for (size_t begin = 0; begin < x.size(); begin += 2 * h)
      for (size_t i = begin; i < begin + h; ++i) {
        const float a = x[i], b = x[i + h];
        x[i] = a + b;
        x[i + h] = a - b;
      }
  const float factor = hadamard_factor(k);
  for (float& v : x) v *= factor;
}

void apply_input_transform(const InputTransform& t, std::span<const float> x, std::span<float> out) {
  FETTLE_CHECK_EQ(x.size(), out.size());
  std::copy(x.begin(), x.end(), out.begin());
  if (!t.col_scales.is_empty()) {
    const float* s = t.col_scales.data<float>();
    for (size_t i = 0; i < out.size(); ++i) out[i] *= s[i];
  }
  rotate(t, false, out);
}

void undo_input_transform(const InputTransform& t, std::span<float> row) {
  rotate(t, true, row);
  if (t.col_scales.is_empty()) return;
  const float* s = t.col_scales.data<float>();
  for (size_t i = 0; i < row.size(); ++i) row[i] *= s[i];
}

void to_stored_space(const InputTransform& t, std::span<float> row) {
  if (!t.col_scales.is_empty()) {
    const float* s = t.col_scales.data<float>();
    for (size_t i = 0; i < row.size(); ++i) row[i] /= s[i];
  }
  rotate(t, false, row);
}

void check_input_transform(const InputTransform& t, int64_t cols) {
  if (!t.col_scales.is_empty() &&
      (t.col_scales.dtype() != DType::kF32 || t.col_scales.shape() != std::vector<int64_t>{cols}))
    fail(ErrorCode::kInternal, "packed weight: column scales: expected F32 [{}], found {}", cols,
         t.col_scales.describe());
  if (t.hadamard > 1 && (!power_of_two(t.hadamard) || cols % t.hadamard != 0))
    fail(ErrorCode::kInternal, "packed weight: Hadamard blocks of {}: expected a power of two that divides {} columns",
         t.hadamard, cols);
  if (t.rotation.is_empty()) return;
  const bool square = t.rotation.dtype() == DType::kF32 && t.rotation.rank() == 2 &&
                      t.rotation.dim(0) == t.rotation.dim(1) && cols % t.rotation.dim(0) == 0;
  if (!square || t.hadamard > 1)
    fail(ErrorCode::kInternal, "packed weight: rotation {}: expected one F32 square that divides {} columns",
         t.rotation.describe(), cols);
}

InputTransform block_rotation(const Tensor& matrix) {
  FETTLE_CHECK(matrix.rank() == 2 && matrix.dim(0) == matrix.dim(1));
  const int64_t k = matrix.dim(0);
  const std::vector<float> m = matrix.to_f32();
  InputTransform out;
  const float exact = hadamard_factor(k);
  // Entry (i, j) of Sylvester's matrix is -1 where i & j has an odd number of bits.
  const auto sylvester = [&](int64_t i, int64_t j) {
    const float v = m[static_cast<size_t>(i * k + j)];
    const bool negative = std::popcount(static_cast<uint64_t>(i & j)) % 2 == 1;
    return std::fabs(std::fabs(v) / exact - 1.0f) < 0.01f && std::signbit(v) == negative;
  };
  bool hadamard = power_of_two(k) && k > 1;
  for (int64_t i = 0; i < k && hadamard; ++i)
    for (int64_t j = 0; j < k && hadamard; ++j) hadamard = sylvester(i, j);
  if (hadamard) {
    out.hadamard = k;
    return out;
  }
  // Some other Hadamard matrix (permuted, signed): its exact entries too.
  std::vector<float> entries = m;
  const bool constant = std::all_of(m.begin(), m.end(), [&](float x) {
    return std::fabs(x) == std::fabs(m[0]) && std::fabs(std::fabs(x) / exact - 1.0f) < 0.01f;
  });
  if (constant)
    for (float& x : entries) x = std::copysign(exact, x);
  out.rotation = Tensor::from<float>(entries, {k, k});
  return out;
}

}  // namespace fettle
