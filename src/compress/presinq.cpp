#include "compress/presinq.h"

#include <map>
#include <set>

#include "compress/checkpoint_files.h"
#include "compress/manifest.h"
#include "compress/model_tensors.h"
#include "io/checkpoint.h"
#include "io/checkpoint_writer.h"
#include "io/quant_config.h"
#include "models/config.h"
#include "tensor/convert.h"

namespace fettle::compress {
namespace {

// The tensors of one decoder block in F32, and how they read each other.
class Block {
 public:
  Block(const io::TensorSource& source, const models::ModelConfig& config, int64_t index)
      : source_(source), config_(config), at_(fmt::format("model.layers.{}.", index)) {
    fold_.norm_plus_one = config.norm_plus_one;
    attention();
    const std::string norm = config.sandwich_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm";
    fold_.ffn.norm = vector(norm + ".weight", config.hidden_size);
    config.sparse_layer[static_cast<size_t>(index)] ? experts() : dense();
  }

  sinq::FoldBlock& fold() { return fold_; }
  // Stored name to values.
  const std::map<std::string, std::vector<float>>& tensors() const { return tensors_; }

 private:
  std::span<float> load(const std::string& name, std::vector<int64_t> shape) {
    const std::string stored = published_name(config_, at_ + name);
    const io::TensorEntry* entry = source_.find(stored);
    if (entry == nullptr || entry->shape != shape)
      fail(ErrorCode::kInput, "{}: tensor \"{}\": expected shape {}, found {}", source_.path(), printable(stored),
           io::shape_text(shape), entry == nullptr ? "none" : entry->describe());
    return tensors_[stored] = source_.get(stored).to_f32();
  }
  std::span<float> vector(const std::string& name, int64_t n) { return load(name, {n}); }
  MatView<float> matrix(const std::string& name, int64_t rows, int64_t cols) {
    return {load(name + ".weight", {rows, cols}).data(), static_cast<size_t>(rows), static_cast<size_t>(cols)};
  }

  void attention() {
    const int64_t hidden = config_.hidden_size, q = config_.q_dim(), kv = config_.kv_dim();
    sinq::FoldBlock::Readers& r = fold_.attention;
    r.norm = vector("input_layernorm.weight", hidden);
    if (config_.fused_qkv) {
      r.matrices = {matrix("self_attn.qkv_proj", q + 2 * kv, hidden)};
    } else {
      r.matrices = {matrix("self_attn.q_proj", q, hidden), matrix("self_attn.k_proj", kv, hidden),
                    matrix("self_attn.v_proj", kv, hidden)};
    }
    r.weighed = r.matrices.size();
  }

  void dense() {
    const int64_t hidden = config_.hidden_size, width = config_.intermediate_size;
    const auto rows = static_cast<size_t>(width);
    MatView<float> up;
    std::span<float> bias;
    if (config_.fused_qkv) {
      const MatView<float> both = matrix("mlp.gate_up_proj", 2 * width, hidden);
      fold_.ffn.matrices = {both};
      up = both.slice_rows(rows, 2 * rows);
      if (config_.mlp_bias) bias = vector("mlp.gate_up_proj.bias", 2 * width).subspan(rows);
    } else {
      up = matrix("mlp.up_proj", width, hidden);
      fold_.ffn.matrices = {matrix("mlp.gate_proj", width, hidden), up};
      if (config_.mlp_bias) bias = vector("mlp.up_proj.bias", width);
    }
    fold_.ffn.weighed = fold_.ffn.matrices.size();
    fold_.experts.push_back({up, matrix("mlp.down_proj", hidden, width), bias});
  }

  void experts() {
    const int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
    for (int64_t j = 0; j < config_.num_experts; ++j) {
      const std::string expert = fmt::format("mlp.experts.{}.", j);
      const MatView<float> up = matrix(expert + "up_proj", width, hidden);
      fold_.ffn.matrices.push_back(matrix(expert + "gate_proj", width, hidden));
      fold_.ffn.matrices.push_back(up);
      fold_.experts.push_back({up, matrix(expert + "down_proj", hidden, width), {}});
    }
    fold_.ffn.weighed = fold_.ffn.matrices.size();
    fold_.ffn.matrices.push_back(matrix("mlp.gate", config_.num_experts, hidden));  // the router only follows
  }

  const io::TensorSource& source_;
  const models::ModelConfig& config_;
  std::string at_;
  std::map<std::string, std::vector<float>> tensors_;
  sinq::FoldBlock fold_;
};

// Every matrix of a block must be one whose inputs this program understands.
void refuse_unknown(const io::TensorSource& source, const models::ModelConfig& config) {
  std::set<std::string> known;
  for (const ModelTensor& t : model_tensors(config)) {
    if (t.kind == ModelTensor::Kind::kExperts) {
      for (int64_t j = 0; j < config.num_experts; ++j)
        known.insert(published_name(config, fmt::format("{}.{}.{}.weight", t.name, j, t.part)));
    } else {
      known.insert(published_name(config, t.kind == ModelTensor::Kind::kMatrix ? t.name + ".weight" : t.name));
    }
  }
  for (const io::TensorEntry* entry : source.entries())
    if (entry->name.find("layers.") != std::string::npos && entry->shape.size() >= 2 && !known.contains(entry->name))
      fail(ErrorCode::kInput,
           "{}: tensor \"{}\": pre-sinq does not know what this matrix reads, so folding might change the model",
           source.file_of(entry->name), printable(entry->name));
}

Tensor converted(const std::vector<float>& values, DType dtype, const std::vector<int64_t>& shape,
                 const std::string& name) {
  Tensor out = Tensor::empty(dtype, shape);
  convert_from_f32(values, dtype, const_cast<std::byte*>(out.bytes().data()));
  if (dtype == DType::kF16)
    for (const float v : values)
      if (!(std::abs(v) <= 65504.0f))
        fail(ErrorCode::kNumeric, "tensor \"{}\": {} after folding does not fit F16; use --format f32", printable(name),
             v);
  return out;
}

}  // namespace

void fold_model(const std::string& model, const std::string& out, const FoldModelOptions& options, ThreadPool& pool,
                const CancelToken* cancel) {
  const io::ModelFiles files = io::resolve_model(model);
  if (files.kind == io::ModelFiles::Kind::kGguf)
    fail(ErrorCode::kInput, "{}: pre-sinq reads Hugging Face directories; turn the file into one with fettle convert",
         files.path);
  const Json json = io::read_config(files);
  if (const io::QuantConfig quant = io::read_quant_config(files, json); quant.method() != io::QuantMethod::kNone)
    fail(ErrorCode::kInput, "{}: expected an unquantised checkpoint, found quantization_config with method {}",
         files.path, io::quant_method_name(quant.method()));
  const models::ModelConfig config = models::parse_hf_config(json, path_join(files.path, "config.json"));
  require_apart(files.path, out);
  const io::TensorSource source = io::TensorSource::open(files);
  require_expected_tensors(source, config);
  refuse_unknown(source, config);
  require_finite(source, pool);

  OutputDir dir(out, options.overwrite);
  std::vector<io::TensorSpec> specs;
  std::map<std::string, DType> types;
  for (const io::TensorEntry* entry : source.entries()) {
    if (!entry->dtype)
      fail(ErrorCode::kInput, "{}: tensor \"{}\" has type {}, which cannot be copied", source.file_of(entry->name),
           printable(entry->name), entry->type);
    const DType type = options.dtype && is_float(*entry->dtype) ? *options.dtype : *entry->dtype;
    types[entry->name] = type;
    specs.push_back({entry->name, type, entry->shape});
  }
  io::CheckpointWriter writer(dir, std::move(specs));
  std::set<std::string> written;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    check_cancel(cancel);
    Block block(source, config, i);
    sinq::fold_block(block.fold(), options.fold, &pool);
    for (const auto& [name, values] : block.tensors()) {
      writer.write(name, converted(values, types.at(name), source.at(name).shape, name));
      source.release(name);
      written.insert(name);
    }
  }
  for (const io::TensorEntry* entry : source.entries()) {
    if (written.contains(entry->name)) continue;
    const Tensor t = source.get(entry->name);
    const DType type = types.at(entry->name);
    writer.write(entry->name, type == t.dtype() ? t : converted(t.to_f32(), type, t.shape(), entry->name));
    source.release(entry->name);
  }
  writer.finish();
  copy_side_files(files, dir.path());
  write_file_atomic(dir.file("config.json"), json.dump(2) + "\n");
  Json job = Json::object();
  job["command"] = "compress";
  job["method"] = "pre-sinq";
  job["tile"] = options.fold.tile;
  job["rounds"] = options.fold.rounds;
  job["repeats"] = options.fold.repeats;
  write_manifest(dir.path(), job);
  check_cancel(cancel);
  dir.commit();
}

}  // namespace fettle::compress
