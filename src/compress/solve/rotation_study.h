#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"

// When does a rotation help a format? The experiment of MR-GPTQ's section 3 (arXiv 2509.23202, figures 3 and 10):
// native tensors are modelled as Laplace numbers, rotated ones are close to normal.
namespace fettle::compress {

struct RotationStudyOptions {
  int64_t samples = 1 << 20;  // a multiple of 1024, the largest group
  uint64_t seed = 0;
  float largest = 0;  // magnitude that the tensor factor of nvfp4 and nvint4 maps to 448; 0 = that of all numbers
};

struct RotationError {
  double rel = 0;  // mean over groups of sum (x - x^)^2 / sum x^2
  double top = 0;  // mean over groups of (x* - x^*)^2 / x*^2, x* the largest element of the group before rotation
};

struct RotationRow {
  int64_t group_size = 0;
  RotationError native;   // Laplace numbers of variance 1, rounded as they are
  RotationError rotated;  // the same, rotated by the Hadamard matrix of the group's size, rounded, rotated back
  RotationError normal;   // standard normal numbers, rounded as they are
};

struct RotationTable {
  std::string_view format;  // one of rotation_study_formats()
  std::vector<RotationRow> rows;
};

// Group sizes 4, 8 .. 1024.
std::span<const int64_t> rotation_study_groups();

// Formats and their scale s for a group with largest magnitude a:
//   nvfp4, nvint4                 E4M3 of g a / 6 (a / 7), over g, where g maps the largest of all samples to 448
//   e2m1_fp32scale, int4_fp32scale   a / 6 (a / 7), not rounded
//   mxfp4_floor, _even, _ceil     the rules of MxScale; mxfp4_fpquant: 4/3 of floor
//   mxint4                        the smallest power of two that is at least a / 7
// FP4: codes of E2M1; INT4: -8 .. 7. All round to nearest even.
std::span<const std::string_view> rotation_study_formats();

// Every format on the same numbers. Throws kUsage for a number of samples that is no positive multiple of 1024. Same
// result for any number of threads. Cost: formats * groups * 3 roundings per sample, about 2 s a thread for 2^20.
std::vector<RotationTable> rotation_study(const RotationStudyOptions& options, ThreadPool& pool);

}  // namespace fettle::compress
