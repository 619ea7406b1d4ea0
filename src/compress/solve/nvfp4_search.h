#pragma once

#include <span>

#include "base/thread_pool.h"
#include "tensor/weight.h"

namespace fettle::compress {

// Tensor scale of NVFP4 for the exhaustive search of group scale codes (specs/01 2.3(c)): from four starts m * max|W| /
// 2688, m in {1, 1.15, 1.33, 1.6}, alternates between the best codes and the least-squares tensor scale until the total
// gains less than 1e-6, at most 8 rounds; returns the best scale seen. importance: [K] or empty.
// Matrices of more than 2^16 groups are searched on evenly spread rows with about that many groups.
float search_nvfp4_tensor_scale(MatView<const float> w, std::span<const float> importance, ThreadPool& pool);

}  // namespace fettle::compress
