#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "io/model_files.h"
#include "models/config.h"
#include "tensor/weight.h"

namespace fettle::models {

// Hands the model builder its weights under their Hugging Face names, whatever file they come from. Every read checks
// shape and dtype and marks the tensor as used.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const ModelConfig& config() const = 0;
  virtual bool has(
      std::string_view module) const = 0;  // "model.layers.0.self_attn.q_proj" (with .weight or packed parts)
  // A [rows, cols] matrix in its stored format.
  virtual PackedWeight matrix(const std::string& module, int64_t rows, int64_t cols) = 0;
  // Expert j of a stacked or per-expert layer: module = "model.layers.0.mlp.experts", part = "gate_proj".
  virtual PackedWeight expert(const std::string& module, int64_t j, std::string_view part, int64_t rows,
                              int64_t cols) = 0;
  // A vector such as a norm weight or a bias, F32. `tensor` is the full name ("model.norm.weight").
  virtual std::vector<float> vector(const std::string& tensor, int64_t n) = 0;
  virtual bool has_tensor(std::string_view tensor) const = 0;
  // How the file calls a module ("model.layers.0.mlp.experts.2.gate_proj" is "...block_sparse_moe.experts.2.w1").
  virtual std::string stored_name(std::string_view name) const { return std::string(name); }
  // True when norm weights are stored with the family's "+1" already applied (GGUF).
  virtual bool norms_have_one_added() const = 0;
  // Called when the kernel layout of a matrix no longer needs the file's bytes.
  virtual void release(const std::string& module) = 0;
  // Names of tensors in the checkpoint that nothing read.
  virtual std::vector<std::string> unused() const = 0;
  // True when BF16 matrices are stored losslessly packed.
  virtual bool lossless_packed() const { return false; }
  virtual std::string place() const = 0;  // file or directory named in errors
};

std::unique_ptr<WeightSource> open_hf_weights(const io::ModelFiles& files, ThreadPool& pool);
std::unique_ptr<WeightSource> open_gguf_weights(const io::ModelFiles& files, ThreadPool& pool);

}  // namespace fettle::models
