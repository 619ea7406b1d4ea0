#include <algorithm>
#include <set>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/linear_loader.h"
#include "models/weight_source.h"

namespace fettle::models {
namespace {

// Prefixes under which multimodal wrappers keep the language model; the first that has the embedding wins.
constexpr std::string_view kPrefixes[] = {"", "language_model.", "model.language_model.", "model.text_model."};

// Where a tensor called "model.X" here is called in the file: wrappers either put their prefix before the whole name
// ("language_model.model.X") or in place of "model." ("model.language_model.X").
std::string prefixed(std::string_view prefix, std::string_view name) {
  if (prefix.starts_with("model.") && name.starts_with("model.")) name.remove_prefix(6);
  return std::string(prefix) + std::string(name);
}

class HfWeights final : public WeightSource {
 public:
  HfWeights(const io::ModelFiles& files, ThreadPool& pool) : config_path_(files.at("config.json")), pool_(pool) {
    const Json json = io::read_config(files);
    config_ = parse_hf_config(json, config_path_);
    quant_ = io::read_quant_config(files, json);
    source_ = std::make_unique<io::TensorSource>(io::TensorSource::open(files));
    const auto* found = std::find_if(std::begin(kPrefixes), std::end(kPrefixes), [&](std::string_view prefix) {
      return has_linear(prefixed(prefix, "model.embed_tokens"));
    });
    if (found != std::end(kPrefixes)) prefix_ = *found;
  }

  const ModelConfig& config() const override { return config_; }
  bool has(std::string_view module) const override { return has_linear(file_name(module)); }
  bool has_tensor(std::string_view tensor) const override { return source_->has(file_name(tensor)); }

  PackedWeight matrix(const std::string& module, int64_t rows, int64_t cols) override {
    const std::string name = file_name(module);
    mark_used(name);
    return io::load_linear(*source_, quant_, name, rows, cols, {.pool = &pool_});
  }

  PackedWeight expert(const std::string& module, int64_t j, std::string_view part, int64_t rows,
                      int64_t cols) override {
    return matrix(fmt::format("{}.{}.{}", module, j, file_part(part)), rows, cols);
  }

  std::string stored_name(std::string_view name) const override {
    const size_t dot = name.rfind('.');
    if (name.find(".experts.") == std::string_view::npos) return file_name(name);
    return file_name(fmt::format("{}.{}", name.substr(0, dot), file_part(name.substr(dot + 1))));
  }

  std::vector<float> vector(const std::string& tensor, int64_t n) override {
    const std::string name = file_name(tensor);
    const io::TensorEntry* entry = source_->find(name);
    if (!entry) fail(ErrorCode::kInput, "{}: tensor \"{}\" is missing", source_->path(), name);
    if (entry->shape != std::vector<int64_t>{n} || !entry->dtype || !is_float(*entry->dtype))
      fail(ErrorCode::kInput, "{}: tensor \"{}\": expected F32, F16 or BF16 [{}], found {}", source_->file_of(name),
           name, n, entry->describe());
    used_.insert(name);
    return source_->get(name).to_f32();
  }

  bool norms_have_one_added() const override { return false; }
  void release(const std::string& module) override { io::release_linear(*source_, quant_, file_name(module)); }
  std::vector<std::string> unused() const override {
    std::vector<std::string> out;
    for (const io::TensorEntry* entry : source_->entries())
      if (!used_.contains(entry->name) && !ignorable(entry->name)) out.push_back(entry->name);
    return out;
  }
  bool lossless_packed() const override {
    return quant_.method() == io::QuantMethod::kDf11 || quant_.method() == io::QuantMethod::kFx3;
  }
  std::string place() const override { return source_->path(); }

 private:
  // mixtral numbers the projections of its experts.
  std::string_view file_part(std::string_view part) const {
    if (config_.model_type != "mixtral") return part;
    return part == "gate_proj" ? "w1" : part == "up_proj" ? "w3" : part == "down_proj" ? "w2" : part;
  }

  // mixtral calls its FFN block_sparse_moe.
  std::string file_name(std::string_view name) const {
    std::string out = prefixed(prefix_, name);
    if (config_.model_type == "mixtral")
      if (const size_t at = out.find(".mlp."); at != std::string::npos) out.replace(at, 5, ".block_sparse_moe.");
    return out;
  }

  bool has_linear(const std::string& name) const { return !io::linear_tensor_names(*source_, quant_, name).empty(); }

  void mark_used(const std::string& name) {
    for (std::string& part : io::linear_tensor_names(*source_, quant_, name)) used_.insert(std::move(part));
  }

  // Buffers old exporters stored, and tensors that matter to other runtimes only.
  static bool ignorable(std::string_view name) {
    return name.ends_with("rotary_emb.inv_freq") || name.ends_with(".k_scale") || name.ends_with(".v_scale") ||
           name.ends_with("_input.weight");  // upstream's copies of Hadamard matrices
  }

  std::string config_path_;
  ThreadPool& pool_;
  ModelConfig config_;
  io::QuantConfig quant_;
  std::unique_ptr<io::TensorSource> source_;
  std::string prefix_;
  std::set<std::string> used_;
};

}  // namespace

std::unique_ptr<WeightSource> open_hf_weights(const io::ModelFiles& files, ThreadPool& pool) {
  return std::make_unique<HfWeights>(files, pool);
}

}  // namespace fettle::models
