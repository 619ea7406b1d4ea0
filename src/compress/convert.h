#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"
#include "base/thread_pool.h"

namespace fettle::compress {

struct ConvertOptions {
  // Type of the weight matrices. GGUF output: f32, f16, bf16, q8_0, q4_0, mxfp4; directory output: f32, f16, bf16.
  // "auto" keeps what is stored: dense types as they are, quantised layers only where the target has a type that holds
  // the same numbers exactly (refused otherwise).
  std::string type = "auto";
  std::string name = {};  // general.name; empty = the folder's or file's name
  Overwrite overwrite = Overwrite::kNo;
};

struct ConvertedTensor {
  std::string name, from, to;  // target name, formats
  bool exact = true;           // the target holds the same numbers
};

struct ConvertReport {
  std::string architecture;  // GGUF architecture or model_type
  std::vector<ConvertedTensor> tensors;
  uint64_t bytes = 0;
  double seconds = 0;
  size_t fallbacks = 0;  // matrices whose rows do not fill the type's blocks, stored as F16 instead
};

// Converts any MODEL to a .gguf file (when `out` ends in .gguf) or to a directory in Hugging Face layout. Weights
// change order and type only as the container asks: q and k rows of the llama architecture are permuted for
// adjacent-pair rotation, Gemma norms gain or lose their 1, experts are stacked, rope scaling becomes a tensor of
// divisors. Throws kInput for architectures that the target does not know and for layers that "auto" cannot store
// exactly, kNumeric for values beyond the range of f16, kUsage for unknown types.
ConvertReport convert(const std::string& model, const std::string& out, const ConvertOptions& options, ThreadPool& pool,
                      const CancelToken* cancel = nullptr);

}  // namespace fettle::compress
