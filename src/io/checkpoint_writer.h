#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "io/safetensors.h"

namespace fettle::io {

inline constexpr uint64_t kDefaultShardBytes = 5'000'000'000;

// The weights of a Hugging Face directory, streamed: all tensors are announced first, data may come in any order and
// only files with open tensors stay open. One file model.safetensors when everything fits max_shard_bytes, otherwise
// model-0000i-of-0000N.safetensors in the announced order and model.safetensors.index.json. Writes into an OutputDir,
// so a failure leaves nothing.
class CheckpointWriter {
 public:
  // Throws kResource when the disk has less room than needed, kInput for duplicate names.
  CheckpointWriter(const OutputDir& dir, std::vector<TensorSpec> tensors,
                   uint64_t max_shard_bytes = kDefaultShardBytes);
  ~CheckpointWriter();
  void write(const std::string& name, const Tensor& tensor);
  // Closes the files and writes the index. Throws kInternal when an announced tensor is missing.
  void finish();

 private:
  struct Shard;
  Shard& shard_of(const std::string& name);
  const OutputDir& dir_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<std::pair<std::string, size_t>> shard_index_;  // sorted by tensor name
  uint64_t total_bytes_ = 0;
};

}  // namespace fettle::io
