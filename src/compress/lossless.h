#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "tensor/df11/unit.h"

namespace fettle::compress {

enum class LosslessMethod : uint8_t { kDf11, kFx3 };
enum class Df11Unit : uint8_t { kBlock, kMatrix };

struct LosslessOptions {
  LosslessMethod method = LosslessMethod::kDf11;
  df11::CodeMode code = df11::CodeMode::kUpstream;
  Df11Unit unit = Df11Unit::kBlock;  // one code for a decoder block, or one per matrix
  Overwrite overwrite = Overwrite::kNo;
};

struct LosslessUnit {
  std::string name;  // module path
  int64_t weights = 0;
  uint64_t bytes_before = 0, bytes_after = 0;
  std::string reason;  // why it was stored as it is; "" = packed
  std::string note;
};

struct LosslessReport {
  std::vector<LosslessUnit> units;
  uint64_t bytes_before = 0, bytes_after = 0;  // of all tensors
  int64_t parameters = 0;
  double seconds = 0;
};

using UnitProgress = std::function<void(size_t done, size_t total)>;

// Packs the BF16 matrices of a directory in Hugging Face layout without loss into the new directory `out`: as DFloat11
// units (LeanModels/DFloat11's layout with dfloat11_config), or as FX3 matrices. What the method cannot hold or would
// not shrink stays as it is, with the reason in the report; matrices of other types too. `out` empty: sizes only.
// Throws kInput for GGUF files, packed or quantised input and a checkpoint without BF16 matrices.
LosslessReport pack_lossless(const std::string& model, const std::string& out, const LosslessOptions& options,
                             ThreadPool& pool, const CancelToken* cancel = nullptr, const UnitProgress& progress = {});

}  // namespace fettle::compress
