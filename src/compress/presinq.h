#pragma once

#include <optional>
#include <string>

#include "base/cancel.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "tensor/sinq/presinq.h"

// Pre-SINQ on a whole model (specs/04 section 2.8).
namespace fettle::compress {

struct FoldModelOptions {
  sinq::FoldOptions fold = {};
  std::optional<DType> dtype = {};  // of the changed tensors; empty: as they are stored
  Overwrite overwrite = Overwrite::kNo;
};

// Writes `model` with SINQ's column factors folded into norms and up projections: an ordinary checkpoint of the same
// architecture and function that loses less when it is quantised, in any format. Llama, Qwen, Mistral, Phi-3, Gemma
// ("1 + weight" norms) and their mixtures of experts; one decoder block in memory at a time. Throws kInput for a
// quantised model, missing tensors, or matrices inside a block that this program does not know: they might read a norm
// whose factors changed.
void fold_model(const std::string& model, const std::string& out, const FoldModelOptions& options, ThreadPool& pool,
                const CancelToken* cancel = nullptr);

}  // namespace fettle::compress
