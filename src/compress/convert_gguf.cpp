#include "compress/convert_gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/log.h"
#include "compress/gguf_metadata.h"
#include "compress/model_tensors.h"
#include "compress/weight_tools.h"
#include "io/gguf.h"
#include "models/gguf_names.h"
#include "tensor/formats/gguf_blocks.h"

namespace fettle::compress {
namespace {

using Kind = ModelTensor::Kind;

// A --type of GGUF output: the matrices, and what the embedding and the output head become (llama.cpp keeps these two
// at 8 bits in its 4-bit files, since they matter most).
struct TypeRow {
  std::string_view name;
  Format matrices, ends;
  uint32_t ggml;      // id of the matrix type
  int64_t file_type;  // general.file_type
};
constexpr TypeRow kTypes[] = {
    {"f32", Format::kF32, Format::kF32, 0, 0},         {"f16", Format::kF16, Format::kF16, 1, 1},
    {"bf16", Format::kBF16, Format::kBF16, 30, 32},    {"q8_0", Format::kQ8_0, Format::kQ8_0, 8, 7},
    {"q4_0", Format::kQ4_0, Format::kQ8_0, 2, 2},      {"mxfp4", Format::kMxfp4, Format::kQ8_0, 39, 38},
    {"nvfp4", Format::kNvfp4, Format::kNvfp4, 40, 39},
};

const TypeRow* find_type(std::string_view name) {
  for (const TypeRow& t : kTypes)
    if (t.name == name) return &t;
  return nullptr;
}

const TypeRow& row_of(Format format) {
  for (const TypeRow& t : kTypes)
    if (t.matrices == format) return t;
  fail(ErrorCode::kInput, "format {} has no GGUF type that fettle writes", format_info(format).name);
}

bool is_dense(Format f) { return f == Format::kF32 || f == Format::kF16 || f == Format::kBF16; }

// What one tensor of the output will be.
struct Output {
  const ModelTensor* tensor = nullptr;  // null: `values` hold a vector made from the config
  std::string name;
  Format format = Format::kF32;
  std::vector<float> values;
};

class GgufExport {
 public:
  GgufExport(models::WeightSource& source, const ConvertOptions& options, ThreadPool& pool, const CancelToken* cancel)
      : source_(source),
        config_(source.config()),
        options_(options),
        pool_(pool),
        cancel_(cancel),
        tensors_(model_tensors(config_)) {
    if (options.type == "auto") return;
    type_ = find_type(options.type);
    if (type_ == nullptr || type_->name == "nvfp4")
      fail(ErrorCode::kUsage, "--type: expected auto, f32, f16, bf16, q8_0, q4_0 or mxfp4 for GGUF, found '{}'",
           printable(options.type));
  }

  ConvertReport write(const std::string& out, const std::string& name,
                      const std::function<void(io::GgufMetadata&)>& add_text) {
    plan();
    io::GgufMetadata metadata;
    const int64_t file_type = row_of(main_format()).file_type;
    add_model_metadata(config_, {name, file_type, !is_dense(main_format())}, metadata);
    add_text(metadata);
    std::vector<io::GgufTensorSpec> specs;
    for (const Output& o : outputs_) specs.push_back(spec(o));
    write_output_file(out, options_.overwrite, [&](FileWriter& file) {
      io::GgufWriter writer(file, metadata, std::move(specs));
      for (const Output& o : outputs_) {
        check_cancel(cancel_);
        write_tensor(o, writer);
      }
      writer.finish();
    });
    report_.bytes = MappedFile::open(out)->bytes().size();
    report_.architecture = models::gguf_architecture(config_);
    return std::move(report_);
  }

 private:
  // ---- which tensors, which types
  void plan() {
    for (const ModelTensor& t : tensors_) {
      if (t.kind == Kind::kVector) {
        if (t.name.ends_with(".bias") && !source_.has_tensor(t.name)) continue;
        outputs_.push_back({&t, gguf_name(t.name), Format::kF32, {}});
        continue;
      }
      if (t.name == "lm_head" && !source_.has("lm_head")) continue;
      Output o{&t,
               gguf_name(t.kind == Kind::kExperts ? t.name + "." + t.part + ".weight" : t.name + ".weight"),
               Format::kF32,
               {}};
      o.format = choose_format(t);
      outputs_.push_back(o);
      if (o.format == Format::kNvfp4) outputs_.push_back(tensor_scales(t, o.name));
    }
    // A separate head of a model that declares tied embeddings is part of the model all the same.
    if (config_.rope.type == models::RopeType::kLlama3)
      outputs_.push_back(
          {nullptr, "rope_freqs.weight", Format::kF32, llama3_divisors(config_.rope, config_.rotary_dim)});
    const auto factors = [&](const char* name, const std::vector<double>& values) {
      if (!values.empty()) outputs_.push_back({nullptr, name, Format::kF32, {values.begin(), values.end()}});
    };
    factors("rope_freqs.weight", config_.rope.frequency_divisors);
    factors("rope_factors_long.weight", config_.rope.long_factor);
    factors("rope_factors_short.weight", config_.rope.short_factor);
  }

  std::string gguf_name(const std::string& hf) const {
    const auto name = models::gguf_tensor_name(config_, hf);
    if (!name)
      fail(ErrorCode::kInput, "tensor \"{}\": architecture {} has no GGUF name for it", hf,
           models::gguf_architecture(config_));
    return *name;
  }

  static bool is_end(const ModelTensor& t) { return t.name == "model.embed_tokens" || t.name == "lm_head"; }
  static bool is_router(const ModelTensor& t) { return t.name.ends_with(".mlp.gate"); }

  Format choose_format(const ModelTensor& t) {
    if (is_router(t)) return Format::kF32;
    if (type_ == nullptr) {
      const PackedWeight w = read(t, 0);
      if (is_dense(w.format)) return w.format;
      const auto exact = exact_gguf_form(w);
      if (!exact && !is_gguf_block(w.format))
        fail(ErrorCode::kInput,
             "{}: layer \"{}\" in format {} with groups of {} has no exact GGUF form; choose a --type", source_.place(),
             t.name, format_info(w.format).name, w.group_size);
      return exact ? exact->format : w.format;
    }
    const Format wanted = is_end(t) ? type_->ends : type_->matrices;
    if (is_dense(wanted) || t.cols % 32 == 0) return wanted;
    ++report_.fallbacks;
    log_warning("{}: rows of {} do not fill blocks of 32; stored as f16", t.name, t.cols);
    return Format::kF16;
  }

  static bool is_gguf_block(Format f) { return !is_dense(f) && formats::find_gguf_block(f) != nullptr; }

  // The type of most weights, for general.file_type.
  Format main_format() const {
    if (type_ != nullptr) return type_->matrices;
    for (const Output& o : outputs_)
      if (o.tensor != nullptr && o.tensor->kind != Kind::kVector && !is_end(*o.tensor) && !is_router(*o.tensor) &&
          find_type(format_info(o.format).name) != nullptr)
        return o.format;
    return Format::kF16;
  }

  // NVFP4 keeps the tensor scale beside the weight: F32, one per matrix or expert, multiplied.
  Output tensor_scales(const ModelTensor& t, const std::string& weight_name) {
    Output o{nullptr,
             weight_name.substr(0, weight_name.size() - std::string_view(".weight").size()) + ".scale",
             Format::kF32,
             {}};
    for (int64_t j = 0; j < copies(t); ++j) o.values.push_back(read(t, j).tensor_scale);
    return o;
  }

  io::GgufTensorSpec spec(const Output& o) const {
    const uint32_t type = ggml_id(o.format);
    if (o.tensor == nullptr) return {o.name, type, {static_cast<int64_t>(o.values.size())}};
    const ModelTensor& t = *o.tensor;
    if (t.kind == Kind::kVector) return {o.name, type, {t.rows}};
    if (t.kind == Kind::kExperts) return {o.name, type, {config_.num_experts, t.rows, t.cols}};
    return {o.name, type, {t.rows, t.cols}};
  }

  static uint32_t ggml_id(Format format) {
    const formats::GgufBlock* type = formats::find_gguf_block(format);
    FETTLE_CHECK(type != nullptr);
    return type->ggml_type;
  }

  // ---- data
  int64_t copies(const ModelTensor& t) const { return t.kind == Kind::kExperts ? config_.num_experts : 1; }

  PackedWeight read(const ModelTensor& t, int64_t expert) {
    return t.kind == Kind::kExperts ? source_.expert(t.name, expert, t.part, t.rows, t.cols)
                                    : source_.matrix(t.name, t.rows, t.cols);
  }

  // Row order of q and k in the target; empty = as it is.
  std::vector<int64_t> row_order(const std::string& name) const {
    const bool adjacent = models::gguf_architecture(config_) == "llama";
    if (!adjacent || config_.interleaved_rope) return {};
    if (name.find(".self_attn.q_proj") != std::string::npos)
      return to_adjacent_pairs(config_.num_attention_heads, config_.head_dim);
    if (name.find(".self_attn.k_proj") != std::string::npos)
      return to_adjacent_pairs(config_.num_key_value_heads, config_.head_dim);
    return {};
  }

  void write_tensor(const Output& o, io::GgufWriter& writer) {
    if (o.tensor == nullptr) {
      writer.write(o.name, std::as_bytes(std::span(o.values)));
      report_.tensors.push_back({o.name, "f32", "f32", true});
    } else if (o.tensor->kind == Kind::kVector) {
      write_vector(o, writer);
    } else {
      write_matrix(o, writer);
    }
  }

  void write_vector(const Output& o, io::GgufWriter& writer) {
    std::vector<float> values = source_.vector(o.tensor->name, o.tensor->rows);
    const bool norm = o.tensor->name.ends_with("norm.weight");
    if (norm && config_.norm_plus_one && !source_.norms_have_one_added())
      for (float& x : values) x += 1.0f;
    if (const auto order = row_order(o.tensor->name); !order.empty()) {
      std::vector<float> moved(values.size());
      for (size_t i = 0; i < order.size(); ++i) moved[i] = values[static_cast<size_t>(order[i])];
      values = std::move(moved);
    }
    writer.write(o.name, std::as_bytes(std::span<const float>(values)));
    report_.tensors.push_back({o.name, "f32", "f32", true});
  }

  void write_matrix(const Output& o, io::GgufWriter& writer) {
    const ModelTensor& t = *o.tensor;
    std::vector<std::byte> bytes;
    ConvertedTensor entry{o.name, "", std::string(format_info(o.format).name), true};
    for (int64_t j = 0; j < copies(t); ++j) {
      PackedWeight w = read(t, j);
      entry.from = format_info(w.format).name;
      if (const auto order = row_order(t.name); !order.empty()) w = permute_rows(w, order);
      if (w.format == o.format && is_dense(w.format) && copies(t) == 1) {
        writer.write(o.name, w.codes.bytes());  // straight from the mapped file
        break;
      }
      const std::vector<std::byte> part = encode_as(w, o.format, entry.exact);
      bytes.insert(bytes.end(), part.begin(), part.end());
    }
    if (!bytes.empty()) writer.write(o.name, bytes);
    source_.release(t.name);
    report_.tensors.push_back(std::move(entry));
  }

  // The bytes of a matrix in the target type; `exact` is cleared when numbers change.
  std::vector<std::byte> encode_as(const PackedWeight& w, Format target, bool& exact) {
    if (w.format == target && is_dense(target) && !w.input.present())
      return {w.codes.bytes().begin(), w.codes.bytes().end()};
    if (w.format == target && is_gguf_block(target)) return formats::to_gguf_blocks(w, &pool_);
    if (const auto same = exact_gguf_form(w); same && same->format == target)
      return formats::to_gguf_blocks(*same, &pool_);
    if (target != Format::kF32) exact = false;
    const std::vector<float> values = decode_parallel(w, pool_);
    const MatView<const float> view(values.data(), static_cast<size_t>(w.rows), static_cast<size_t>(w.cols));
    if (!is_dense(target)) return formats::quantise_gguf(ggml_id(target), view, &pool_);
    const Tensor dense = encode(format_info(target), view, {}, pool_).codes;
    return {dense.bytes().begin(), dense.bytes().end()};
  }

  models::WeightSource& source_;
  const models::ModelConfig& config_;
  const ConvertOptions& options_;
  ThreadPool& pool_;
  const CancelToken* cancel_;
  const std::vector<ModelTensor> tensors_;
  const TypeRow* type_ = nullptr;  // null = auto
  std::vector<Output> outputs_;
  ConvertReport report_;
};

}  // namespace

ConvertReport write_gguf(models::WeightSource& source, const std::string& out, const std::string& name,
                         const std::function<void(io::GgufMetadata&)>& add_text, const ConvertOptions& options,
                         ThreadPool& pool, const CancelToken* cancel) {
  return GgufExport(source, options, pool, cancel).write(out, name, add_text);
}

}  // namespace fettle::compress
