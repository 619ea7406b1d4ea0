#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "tensor/dtype.h"

// Random-weight checkpoints of real shapes, for benchmarks and tests without a download.
namespace fettle::compress {

struct SynthOptions {
  std::string arch = "llama";   // model_type of the config
  std::string params = "tiny";  // size name within the architecture, see synth_shapes()
  DType dtype = DType::kBF16;   // kBF16, kF16 or kF32
  uint64_t seed = 0;
};

struct SynthShape {
  std::string arch, params, like;  // like: the published model whose config this is, or what it is for
};
std::vector<SynthShape> synth_shapes();  // by arch, then size

// One tensor of a checkpoint to be made.
struct SynthTensor {
  std::string name;
  std::vector<int64_t> shape;
  enum class Fill : uint8_t { kNormal, kOne, kZero } fill = Fill::kNormal;
};

// config.json of the shape (without torch_dtype). Throws kUsage with the known names.
Json synth_config(const std::string& arch, const std::string& params);
// Every tensor the architecture needs, Hugging Face names, in layer order.
std::vector<SynthTensor> synth_tensors(const Json& config);

struct SynthReport {
  int64_t parameters = 0;
  uint64_t bytes = 0;
  size_t tensors = 0;
};

// Writes a directory in Hugging Face layout: config.json, generation_config.json, model.safetensors, tokenizer files of
// a byte-level tokenizer (256 byte tokens, 4 special ones). Matrices are normal with deviation 1/sqrt(columns), so that
// activations keep their size through the layers; norms are neutral, biases zero. A pure function of the options,
// whatever the number of threads.
SynthReport synth(const std::string& out, const SynthOptions& options, Overwrite overwrite, ThreadPool& pool,
                  const CancelToken* cancel = nullptr);

// Normal deviates by number: values [begin, begin + out.size()) of stream `stream` of `seed`. 65,536 distinct values
// (the inverse distribution function at the centres of equal slices), so that a billion weights take seconds.
void fill_normal(uint64_t seed, uint64_t stream, uint64_t begin, float deviation, std::span<float> out);

}  // namespace fettle::compress
