#pragma once

#include "tensor/weight.h"

namespace fettle::formats {

// F8_E4M3 codes with a float scale s = max |x| / 448 per row (group_size -1, the default), group, or whole tensor
// (group_size -2: the same scale in every row). Codes saturate at 448. Short last groups are allowed; zero groups get
// s = 1.
PackedWeight encode_fp8(MatView<const float> w, const FormatOptions& options, ThreadPool* pool);

}  // namespace fettle::formats
