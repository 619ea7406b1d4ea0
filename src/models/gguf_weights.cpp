#include <set>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/linear_loader.h"
#include "models/gguf_names.h"
#include "models/weight_source.h"

namespace fettle::models {
namespace {

class GgufWeights final : public WeightSource {
 public:
  GgufWeights(const io::ModelFiles& files, ThreadPool& pool)
      : source_(io::TensorSource::open(files)), config_(parse_gguf_config(source_)), pool_(pool) {
    for (const char* name : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
      used_.insert(name);
  }

  const ModelConfig& config() const override { return config_; }
  bool has(std::string_view module) const override { return has_tensor(std::string(module) + ".weight"); }
  bool has_tensor(std::string_view tensor) const override {
    const auto name = gguf_tensor_name(config_, tensor);
    return name && source_.find(*name);
  }

  PackedWeight matrix(const std::string& module, int64_t rows, int64_t cols) override {
    return io::load_linear(source_, {}, stored_module(module), rows, cols, {.pool = &pool_});
  }

  PackedWeight expert(const std::string& module, int64_t j, std::string_view part, int64_t rows,
                      int64_t cols) override {
    const std::string name = stored_module(fmt::format("{}.{}", module, part));
    return io::load_expert(source_, {}, name, j, config_.num_experts, rows, cols, {.pool = &pool_});
  }

  std::vector<float> vector(const std::string& tensor, int64_t n) override {
    const io::TensorEntry& entry = entry_of(tensor, {n});
    if (!entry.dtype)
      fail(ErrorCode::kInput, "{}: tensor \"{}\": expected a plain float type, found {}", source_.path(), entry.name,
           entry.describe());
    return source_.get(entry.name).to_f32();
  }

  bool norms_have_one_added() const override { return true; }
  void release(const std::string& module) override { io::release_linear(source_, stored_module(module)); }
  std::vector<std::string> unused() const override {
    std::vector<std::string> out;
    for (const io::TensorEntry* entry : source_.entries())
      if (!used_.contains(entry->name)) out.push_back(entry->name);
    return out;
  }
  std::string place() const override { return source_.path(); }

 private:
  const io::TensorEntry& entry_of(const std::string& hf_name, const std::vector<int64_t>& shape) {
    const auto name = gguf_tensor_name(config_, hf_name);
    const io::TensorEntry* entry = name ? source_.find(*name) : nullptr;
    if (!entry)
      fail(ErrorCode::kInput, "{}: tensor \"{}\" ({}) is missing", source_.path(), name.value_or("?"), hf_name);
    if (entry->shape != shape)
      fail(ErrorCode::kInput, "{}: tensor \"{}\": expected shape {}, found {}", source_.path(), *name,
           io::shape_text(shape), entry->describe());
    used_.insert(*name);
    return *entry;
  }

  // "model.layers.0.mlp.up_proj" -> "blk.0.ffn_up"; its tensors count as used.
  std::string stored_module(const std::string& module) {
    const auto name = gguf_tensor_name(config_, module + ".weight");
    if (!name || !source_.has(*name))
      fail(ErrorCode::kInput, "{}: tensor \"{}\" ({}) is missing", source_.path(), name.value_or("?"), module);
    std::string stem = name->substr(0, name->size() - std::string_view(".weight").size());
    for (std::string& part : io::linear_tensor_names(source_, stem)) used_.insert(std::move(part));
    return stem;
  }

  io::TensorSource source_;
  ModelConfig config_;
  ThreadPool& pool_;
  std::set<std::string> used_;
};

}  // namespace

std::unique_ptr<WeightSource> open_gguf_weights(const io::ModelFiles& files, ThreadPool& pool) {
  return std::make_unique<GgufWeights>(files, pool);
}

}  // namespace fettle::models
