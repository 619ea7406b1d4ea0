#pragma once

#include <cstddef>
#include <functional>

#include "base/thread_pool.h"
#include "tensor/weight.h"

// Shared by the encoders in this folder.
namespace fettle::formats {

// Rows handed out at a time: whole rows only, so bytes never depend on the number of threads.
void for_rows(size_t rows, ThreadPool* pool, const std::function<void(size_t row)>& body);

// Throws kNumeric naming the first (row-major) NaN or infinity. Also throws kInput for an empty matrix.
void check_weights(std::string_view format, MatView<const float> w, ThreadPool* pool);

// Turns FormatOptions::group_size into a positive group length for `cols` columns. allow_short: the last group of a row
// may be shorter; otherwise kInput unless the group divides cols.
int64_t resolve_group(std::string_view format, int64_t requested, int64_t default_group, size_t cols, bool allow_short);

// max |x|; 0 for an empty span.
float abs_max(std::span<const float> x);

float matrix_abs_max(MatView<const float> w, ThreadPool* pool);

}  // namespace fettle::formats
