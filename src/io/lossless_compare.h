#pragma once

#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/thread_pool.h"
#include "io/model_files.h"

namespace fettle::io {

struct BitComparison {
  size_t tensors = 0;                    // that both have and that are equal
  uint64_t bytes = 0;                    // of those, as plain tensors
  std::vector<std::string> differences;  // one line each, sorted by tensor name
};

// Compares two checkpoints bit for bit, tensor by tensor, across shardings and lossless containers: DFloat11 units and
// FX3 matrices count as the BF16 tensors they hold (a DFloat11 unit keeps no shapes, so only their sizes are compared).
// Every other tensor must be the same bytes of the same type and shape. Throws kInput for malformed files.
BitComparison compare_bits(const ModelFiles& a, const ModelFiles& b, ThreadPool& pool,
                           const CancelToken* cancel = nullptr);

}  // namespace fettle::io
