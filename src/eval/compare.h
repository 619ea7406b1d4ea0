#pragma once

#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/thread_pool.h"

namespace fettle::eval {

// One tensor of two checkpoints of the same architecture.
struct TensorDifference {
  std::string name;  // Hugging Face name
  std::string format_a, format_b;
  double relative_error = 0;  // |A - B|^2 / |A|^2, sums in F64; |B|^2 when A is zero
  double max_abs = 0;         // largest |A - B|
  bool identical = false;     // every value equal
};

struct Comparison {
  std::vector<TensorDifference> tensors;
  double relative_error = 0;  // over all weight matrices together
  size_t identical = 0;
};

// Compares two MODELs tensor by tensor in F32, whatever containers and formats hold them; rotary row orders and Gemma's
// norm convention are aligned first. Throws kInput when the architectures or a shape differ.
Comparison compare_checkpoints(const std::string& a, const std::string& b, ThreadPool& pool,
                               const CancelToken* cancel = nullptr);

}  // namespace fettle::eval
