#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/matmul.h"
#include "kv/kv_cache.h"
#include "models/config.h"
#include "tensor/tensor.h"

namespace fettle::models {

// How BF16 weights lie in memory. All give the same bits.
enum class Residency : uint8_t {
  kAuto,  // FX3 for losslessly packed checkpoints (DFloat11, FX3), else as stored
  kBf16,  // plain
  kFx3,   // packed at load: a quarter less memory and faster decoding
};

struct LoadOptions {
  kernels::ActMode activations = kernels::ActMode::kA16;
  int64_t context = 0;           // longest sequence that will run (longrope chooses by it); 0 = min(declared, 8192)
  bool allow_nonfinite = false;  // norms and other small tensors with NaN/Inf are refused otherwise
  Residency residency = Residency::kAuto;
  bool strict = false;  // unexpected tensors are an error instead of a warning
};

// What a checkpoint weighs, as stored.
struct TensorSummary {
  std::string name;    // Hugging Face name of the module or tensor
  std::string format;  // registry name, e.g. "bf16", "int4"
  std::vector<int64_t> shape;
  size_t bytes = 0;  // all parts: codes, scales, zero points
};

// One run of consecutive tokens of one sequence; positions start at the sequence's committed length in the cache.
struct SeqTokens {
  kv::SeqId seq;
  std::span<const int32_t> tokens;
};

enum class LogitRows : uint8_t { kLast, kAll };  // of every sequence, or of every token

// Everything forward() needs besides weights and cache. Reused between calls; grows to the largest batch seen.
struct ForwardScratch;
std::shared_ptr<ForwardScratch> make_scratch();

// A decoder-only language model, immutable after load; forward() may be called by one thread at a time per scratch.
class Model {
 public:
  // MODEL = Hugging Face directory, .gguf file or hub id in the local cache. Maps weights, checks names, shapes and
  // dtypes against the config before any weight byte is touched. Throws kInput naming file, tensor, expected and found.
  static std::shared_ptr<const Model> load(const std::string& model, const LoadOptions& options, ThreadPool& pool);
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const std::vector<TensorSummary>& tensors() const = 0;
  virtual size_t weight_bytes() const = 0;  // resident, kernel layout
  virtual int64_t parameters() const = 0;
  virtual kv::KvLayout kv_layout(DType kv_dtype) const = 0;

  // Runs the batch through all layers, writes K and V into the cache and commits the tokens. Room must have been
  // reserved. Result rows: [sum of tokens or number of sequences, vocab_size] f32, valid until the next call.
  virtual MatView<const float> forward(std::span<const SeqTokens> batch, LogitRows rows, kv::KvCache& cache,
                                       ForwardScratch& scratch, ThreadPool& pool) const = 0;
};

}  // namespace fettle::models
