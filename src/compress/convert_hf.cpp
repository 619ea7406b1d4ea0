#include <cstring>

#include "base/log.h"
#include "compress/checkpoint_files.h"
#include "compress/convert_gguf.h"
#include "compress/hf_config.h"
#include "compress/hf_tokenizer.h"
#include "compress/manifest.h"
#include "compress/model_tensors.h"
#include "compress/weight_tools.h"
#include "io/checkpoint_writer.h"
#include "models/gguf_names.h"
#include "tensor/convert.h"
#include "tensor/formats/fx3.h"

namespace fettle::compress {
namespace {

using Kind = ModelTensor::Kind;

bool is_dense(Format f) { return f == Format::kF32 || f == Format::kF16 || f == Format::kBF16; }

std::optional<Format> parse_type(const std::string& type) {
  if (type == "auto") return std::nullopt;
  if (type == "f32") return Format::kF32;
  if (type == "f16") return Format::kF16;
  if (type == "bf16") return Format::kBF16;
  fail(ErrorCode::kUsage, "--type: expected auto, f32, f16 or bf16 for a directory, found '{}'", printable(type));
}

DType dtype_of(Format f) { return f == Format::kF32 ? DType::kF32 : f == Format::kF16 ? DType::kF16 : DType::kBF16; }

class HfExport {
 public:
  HfExport(models::WeightSource& source, const io::ModelFiles& from, const ConvertOptions& options, ThreadPool& pool,
           const CancelToken* cancel)
      : source_(source),
        config_(source.config()),
        from_(from),
        options_(options),
        pool_(pool),
        cancel_(cancel),
        type_(parse_type(options.type)) {}

  ConvertReport write(const std::string& out) {
    if (from_.kind == io::ModelFiles::Kind::kHuggingFace) require_apart(from_.path, out);
    std::vector<io::TensorSpec> specs;
    for (const ModelTensor& t : model_tensors(config_)) plan(t, specs);
    OutputDir dir(out, options_.overwrite);
    io::CheckpointWriter writer(dir, std::move(specs));
    for (const Part& p : parts_) {
      check_cancel(cancel_);
      writer.write(p.name, read(p));
    }
    writer.finish();
    write_side_files(dir);
    Json job = Json::object();
    job["command"] = "convert";
    job["type"] = options_.type;
    for (const ManifestFile& f : write_manifest(dir.path(), std::move(job))) report_.bytes += f.bytes;
    dir.commit();
    report_.architecture = config_.model_type;
    return std::move(report_);
  }

 private:
  struct Part {
    std::string name;  // in the output
    ModelTensor tensor;
    int64_t expert = 0;
    Format format = Format::kBF16;
  };

  void plan(const ModelTensor& t, std::vector<io::TensorSpec>& specs) {
    if (t.name == "lm_head" && !source_.has("lm_head")) return;
    if (t.kind == Kind::kVector && t.name.ends_with(".bias") && !source_.has_tensor(t.name)) return;
    const int64_t copies = t.kind == Kind::kExperts ? config_.num_experts : 1;
    for (int64_t j = 0; j < copies; ++j) {
      Part p{{}, t, j, Format::kF32};
      if (t.kind == Kind::kVector) {
        p.name = published_name(config_, t.name);
        p.format = vector_format(t);
        specs.push_back({p.name, dtype_of(p.format), {t.rows}});
      } else {
        p.name = published_name(
            config_, t.kind == Kind::kExperts ? fmt::format("{}.{}.{}.weight", t.name, j, t.part) : t.name + ".weight");
        p.format = matrix_format(p);
        specs.push_back({p.name, dtype_of(p.format), {t.rows, t.cols}});
        if (main_ == std::nullopt) main_ = p.format;
      }
      parts_.push_back(std::move(p));
    }
  }

  Format matrix_format(const Part& p) {
    if (type_) return *type_;
    const Format stored = read_packed(p).format;
    if (stored == Format::kFx3) return Format::kBF16;  // lossless both ways
    if (!is_dense(stored))
      fail(ErrorCode::kInput, "{}: \"{}\" is stored as {}; a directory of plain weights needs --type bf16, f16 or f32",
           source_.place(), p.tensor.name, format_info(stored).name);
    return stored;
  }

  // GGUF widens vectors to F32; they take the type of the matrices again when it holds them exactly.
  Format vector_format(const ModelTensor& t) {
    const Format wanted = type_.value_or(main_.value_or(Format::kF32));
    if (wanted == Format::kF32) return wanted;
    const std::vector<float> values = vector_values(t);
    std::vector<float> back(values.size());
    const DType type = dtype_of(wanted);
    std::vector<std::byte> bytes(values.size() * dtype_bytes(type));
    convert_from_f32(values, type, bytes.data());
    convert_to_f32(type, bytes.data(), back);
    return back == values ? wanted : Format::kF32;
  }

  std::vector<float> vector_values(const ModelTensor& t) {
    std::vector<float> values = source_.vector(t.name, t.rows);
    if (t.name.ends_with("norm.weight") && config_.norm_plus_one && source_.norms_have_one_added())
      for (float& x : values) x -= 1.0f;
    if (const auto order = row_order(t.name); !order.empty()) {
      std::vector<float> moved(values.size());
      for (size_t i = 0; i < order.size(); ++i) moved[i] = values[static_cast<size_t>(order[i])];
      return moved;
    }
    return values;
  }

  std::vector<int64_t> row_order(const std::string& name) const {
    if (!config_.interleaved_rope) return {};
    if (name.find(".self_attn.q_proj") != std::string::npos)
      return to_split_halves(config_.num_attention_heads, config_.head_dim);
    if (name.find(".self_attn.k_proj") != std::string::npos)
      return to_split_halves(config_.num_key_value_heads, config_.head_dim);
    return {};
  }

  PackedWeight read_packed(const Part& p) {
    const ModelTensor& t = p.tensor;
    PackedWeight w = t.kind == Kind::kExperts ? source_.expert(t.name, p.expert, t.part, t.rows, t.cols)
                                              : source_.matrix(t.name, t.rows, t.cols);
    const auto order = row_order(t.name);
    return order.empty() ? w : permute_rows(w, order);
  }

  Tensor read(const Part& p) {
    if (p.tensor.kind == Kind::kVector) {
      const std::vector<float> values = vector_values(p.tensor);
      Tensor out = Tensor::empty(dtype_of(p.format), {p.tensor.rows});
      convert_from_f32(values, out.dtype(), const_cast<std::byte*>(out.bytes().data()));
      report_.tensors.push_back({p.name, "f32", std::string(format_info(p.format).name), true});
      return out;
    }
    const PackedWeight w = read_packed(p);
    const bool lossless = w.format == Format::kFx3 && p.format == Format::kBF16;
    const bool same = lossless || w.format == p.format;
    report_.tensors.push_back({p.name, std::string(format_info(w.format).name), std::string(format_info(p.format).name),
                               same || p.format == Format::kF32});
    if (lossless) return formats::fx3_to_bf16(w, &pool_);
    if (same && !w.input.present()) return w.codes;
    const std::vector<float> values = decode_parallel(w, pool_);
    source_.release(p.tensor.name);
    const MatView<const float> view(values.data(), static_cast<size_t>(w.rows), static_cast<size_t>(w.cols));
    return encode(format_info(p.format), view, {}, pool_).codes;
  }

  void write_side_files(const OutputDir& dir) {
    const DType dtype = dtype_of(main_.value_or(Format::kF32));
    if (from_.kind == io::ModelFiles::Kind::kGguf) {
      Json config = make_hf_config(config_, dtype);
      write_file_atomic(dir.file("config.json"), config.dump(2) + "\n");
      const io::GgufFile file = io::GgufFile::open(from_.path);
      if (file.has("tokenizer.ggml.tokens")) write_hf_tokenizer(file, dir);
      return;
    }
    copy_side_files(from_, dir.path());
    Json config = io::read_config(from_);
    config.erase("quantization_config");
    config.erase("dfloat11_config");
    config[config.find("dtype") != nullptr ? "dtype" : "torch_dtype"] = dtype == DType::kBF16  ? "bfloat16"
                                                                        : dtype == DType::kF16 ? "float16"
                                                                                               : "float32";
    write_file_atomic(dir.file("config.json"), config.dump(2) + "\n");
  }

  models::WeightSource& source_;
  const models::ModelConfig& config_;
  const io::ModelFiles& from_;
  const ConvertOptions& options_;
  ThreadPool& pool_;
  const CancelToken* cancel_;
  std::optional<Format> type_;  // nullopt = auto
  std::optional<Format> main_;  // of the first matrix
  std::vector<Part> parts_;
  ConvertReport report_;
};

}  // namespace

ConvertReport write_hf(models::WeightSource& source, const std::string& out, const io::ModelFiles& from,
                       const ConvertOptions& options, ThreadPool& pool, const CancelToken* cancel) {
  return HfExport(source, from, options, pool, cancel).write(out);
}

}  // namespace fettle::compress
