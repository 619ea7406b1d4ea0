#pragma once

#include <cstddef>
#include <cstdint>

// Register-only loops whose operations are counted, and a plain read, per ISA level.
namespace fettle::kernels {

struct PeakKernels {
  uint64_t (*read)(const uint8_t* p, size_t bytes);  // bytes a multiple of 256; returns something that depends on all
  // Each runs n rounds and returns the operations done (multiply and add count one each); `sink` keeps the result
  // alive.
  double (*f32)(size_t n, float* sink);
  double (*int8)(size_t n, float* sink);   // may be null
  double (*int16)(size_t n, float* sink);  // may be null
  double (*bf16)(size_t n, float* sink);   // may be null
};

#if defined(__x86_64__)
extern const PeakKernels kAvx2Peaks, kAvx512Peaks, kAvx512VnniPeaks, kAvx512Bf16Peaks;
#endif

}  // namespace fettle::kernels
