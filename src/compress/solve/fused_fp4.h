#pragma once

#include "compress/solve/observers.h"

namespace fettle::compress {

// How QuTLASS's fused kernels (IST-DASLab/qutlass e74319e) choose the scale of a group x of rotated values.
enum class FusedScale : uint8_t {
  kMxQuest,   // 2^floor(log2(2.92247856 / 6 * deviation(x) + 1e-8)): values above 6 are clipped
  kMxAbsMax,  // 2^floor(log2(max |x| + 1e-8)), and codes of 3 x / scale: values are code * scale / 3
  kNvAbsMax,  // E4M3 of global * max |x| / 6: values are code * scale / global
};

struct FusedFp4 {
  Fp4Matrix matrix;                // scales E8M0 or E4M3; global_scale as given (nv), else 1
  float factor = 1;                // MX: values are code * scale * factor (1, or 1/3 for kMxAbsMax)
  std::vector<uint8_t> clip_mask;  // MX: [rows, cols / 8] bit i of a byte = element 8 * byte + i lies in +-6 scales
  float value(int64_t row, int64_t col) const;
};

// Rotation and rounding of activations in one step: every run of k columns of x times `rotation` [k, k] (row vectors),
// then E2M1 codes of groups of 32 (MX) or 16 (NV). The rotation is summed in F64, codes are rounded from F32. A group
// of zeros has the zero scale code (NV) or that of 1e-8 (MX) and zero codes. Throws kInput when k does not divide the
// columns or is no multiple of the group, kUsage for a global scale that is not positive.
FusedFp4 fused_quantise(MatView<const float> x, MatView<const float> rotation, FusedScale scale,
                        float global_scale = 1);

}  // namespace fettle::compress
