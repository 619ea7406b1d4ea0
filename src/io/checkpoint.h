#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/gguf.h"
#include "io/model_files.h"
#include "io/safetensors.h"

namespace fettle::io {

// The tensors of one model, whatever holds them: a single or sharded safetensors directory, or a (split) GGUF file.
// Opening validates every container and the index; reading is zero-copy. Immutable; copies share the mappings.
class TensorSource {
 public:
  // Throws kInput naming the file and what is wrong: missing shard, tensor in two shards, tensor named by the index but
  // absent from its shard, only pickle weights, ...
  static TensorSource open(const ModelFiles& files);
  static TensorSource open_directory(const std::string& dir, Symlinks symlinks = Symlinks::kInside);
  static TensorSource open_gguf(const std::string& path, Symlinks symlinks = Symlinks::kInside);

  bool is_gguf() const;
  const GgufFile& gguf() const;  // first part: metadata; kInternal when is_gguf() is false
  const std::string& path() const;

  std::vector<const TensorEntry*> entries() const;       // sorted by name
  const TensorEntry* find(std::string_view name) const;  // nullptr when absent
  const TensorEntry& at(std::string_view name) const;    // throws kInput when absent
  bool has(std::string_view name) const { return find(name) != nullptr; }
  const std::string& file_of(std::string_view name) const;  // path of the container, for messages

  Tensor get(std::string_view name) const;    // GGUF block types: U8, last dimension in bytes
  void release(std::string_view name) const;  // drops the pages from memory; absent names are ignored
  uint64_t total_bytes() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace fettle::io
