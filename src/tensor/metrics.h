#pragma once

#include <cstddef>
#include <span>

#include "tensor/weight.h"

namespace fettle {

// How far `value` is from `reference`, element-wise over n numbers; sums in F64.
struct ErrorStats {
  size_t count = 0;
  double relative_squared_error = 0;  // sum (r - v)^2 / sum r^2; 0 when equal, infinity when only r is all zero
  double max_abs = 0;                 // max |r - v|
  double cosine = 1;                  // r.v / (|r| |v|); 1 when both are zero, 0 when one is
  size_t non_finite = 0;              // elements where value is NaN or infinite; they are left out of the sums

  double rms() const;  // root of the mean squared difference

  double squared_error = 0, squared_reference = 0;  // the sums themselves
};

// Throws kInternal when the sizes differ.
ErrorStats compare(std::span<const float> reference, std::span<const float> value);

// Decodes row by row, so only one row is held in F32 per thread; equal for any number of threads.
ErrorStats compare(MatView<const float> reference, const PackedWeight& value, ThreadPool* pool = nullptr);

// MSE_rel of "Bridging the Gap Between Promise and Performance for Microscaling FP4 Quantization" (MR-GPTQ): the mean
// over groups of `group` consecutive numbers of sum (r - v)^2 / sum r^2. Groups where r is all zero are left out; 0
// when none is left. Differs from relative_squared_error where groups differ in energy (heavy tails). group divides the
// size.
double mean_group_error(std::span<const float> reference, std::span<const float> value, size_t group);

}  // namespace fettle
