#include "tensor/formats/encode_common.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "tensor/formats/codecs.h"

namespace fettle::formats {
namespace {

constexpr size_t kRowGrain = 8;

// Index of the first non-finite value, or x.size(). The common case is one branch-free pass.
size_t first_bad(std::span<const float> x) {
  uint32_t bad = 0;
  for (const float v : x) bad |= static_cast<uint32_t>((f32_bits(v) & 0x7F800000u) == 0x7F800000u);
  if (bad == 0) return x.size();
  for (size_t i = 0; i < x.size(); ++i)
    if (!std::isfinite(x[i])) return i;
  return x.size();
}

}  // namespace

void for_rows(size_t rows, ThreadPool* pool, const std::function<void(size_t row)>& body) {
  if (pool == nullptr) {
    for (size_t r = 0; r < rows; ++r) body(r);
    return;
  }
  pool->parallel_chunks(rows, kRowGrain, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) body(r);
  });
}

void check_weights(std::string_view format, MatView<const float> w, ThreadPool* pool) {
  if (w.rows == 0 || w.cols == 0)
    fail(ErrorCode::kInput, "{}: cannot encode an empty {} x {} matrix", format, w.rows, w.cols);
  std::vector<size_t> bad(w.rows);
  for_rows(w.rows, pool, [&](size_t r) { bad[r] = first_bad(w.row_span(r)); });
  for (size_t r = 0; r < w.rows; ++r)
    if (bad[r] < w.cols)
      fail(ErrorCode::kNumeric, "{}: weight [{}, {}] is {}: expected finite values", format, r, bad[r],
           w.row(r)[bad[r]]);
}

int64_t resolve_group(std::string_view format, int64_t requested, int64_t default_group, size_t cols,
                      bool allow_short) {
  const auto k = static_cast<int64_t>(cols);
  int64_t group = requested != 0 ? requested : default_group;
  if (group == -1) return k;
  if (group < 1)
    fail(ErrorCode::kInput, "{}: group size {}: expected -1 (one per row) or a positive number", format, group);
  if (!allow_short && k % group != 0)
    fail(ErrorCode::kInput, "{}: {} columns: expected a multiple of the group size {}", format, k, group);
  return std::min(group, k);
}

float abs_max(std::span<const float> x) {
  // Compared as integers: for finite values the order of magnitudes is the order of the bits.
  uint32_t m = 0;
  for (const float v : x) m = std::max(m, f32_bits(v) & 0x7FFFFFFFu);
  return f32_from_bits(m);
}

float matrix_abs_max(MatView<const float> w, ThreadPool* pool) {
  std::vector<float> rows(w.rows);
  for_rows(w.rows, pool, [&](size_t r) { rows[r] = abs_max(w.row_span(r)); });
  return rows.empty() ? 0.0f : *std::max_element(rows.begin(), rows.end());
}

}  // namespace fettle::formats
