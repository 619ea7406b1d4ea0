#include "compress/lossless.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "base/error.h"
#include "compress/checkpoint_files.h"
#include "compress/manifest.h"
#include "compress/model_tensors.h"
#include "io/checkpoint_writer.h"
#include "io/quant_config.h"
#include "models/config.h"
#include "tensor/formats/fx3.h"

namespace fettle::compress {
namespace {

using Named = std::vector<std::pair<std::string, Tensor>>;

// A unit to be packed: the path of its module and its matrices relative to it (one "" when it is the matrix).
struct Unit {
  std::string module;
  std::vector<std::string> parts;
  std::string tensor(size_t i) const { return (parts[i].empty() ? module : module + "." + parts[i]) + ".weight"; }
};

struct Packed {
  Named tensors;
  std::string refusal, note;
};

Tensor byte_tensor(std::vector<uint8_t> bytes, std::vector<int64_t> shape) {
  return Tensor::from<uint8_t>(bytes, std::move(shape));
}

Packed pack_df11(const Unit& unit, const std::vector<Tensor>& matrices, df11::CodeMode mode, ThreadPool& pool) {
  std::vector<std::span<const std::byte>> bytes;
  std::vector<int64_t> splits;
  int64_t at = 0;
  for (const Tensor& t : matrices) {
    bytes.push_back(t.bytes());
    splits.push_back(at += t.numel());
  }
  splits.pop_back();
  df11::Encoded e = df11::encode_unit(bytes, mode, &pool);
  Packed out;
  out.refusal = std::move(e.refusal);
  out.note = std::move(e.note);
  if (!out.refusal.empty()) return out;
  const auto add = [&](const char* suffix, std::vector<uint8_t>& values, std::vector<int64_t> shape) {
    out.tensors.emplace_back(unit.module + suffix, byte_tensor(std::move(values), std::move(shape)));
    values = {};
  };
  const auto length = [](const std::vector<uint8_t>& v) { return static_cast<int64_t>(v.size()); };
  df11::Unit& u = e.unit;
  add(".luts", u.luts, {length(u.luts) / 256, 256});
  add(".encoded_exponent", u.encoded_exponent, {length(u.encoded_exponent)});
  add(".sign_mantissa", u.sign_mantissa, {length(u.sign_mantissa)});
  add(".output_positions", u.output_positions, {length(u.output_positions)});
  add(".gaps", u.gaps, {length(u.gaps)});
  out.tensors.emplace_back(unit.module + ".split_positions",
                           Tensor::from<int64_t>(splits, {static_cast<int64_t>(splits.size())}));
  return out;
}

Packed pack_fx3(const Unit& unit, const Tensor& matrix, ThreadPool& pool) {
  const PackedWeight w = formats::fx3_from_bf16(matrix, &pool);
  Packed out;
  if (w.bytes() >= matrix.nbytes()) {
    out.refusal = fmt::format("would take {} bytes instead of {}", w.bytes(), matrix.nbytes());
    return out;
  }
  const int64_t shape[] = {w.rows, w.cols};
  out.tensors = {{unit.module + ".fx3_codes", w.codes},
                 {unit.module + ".fx3_tables", w.high_tables},
                 {unit.module + ".fx3_exception_starts", w.exception_starts},
                 {unit.module + ".fx3_exception_cols", w.exception_cols},
                 {unit.module + ".fx3_exception_highs", w.exception_highs},
                 {unit.module + ".fx3_shape", Tensor::from<int64_t>(shape, {2})}};
  return out;
}

// "model.layers.12" of "model.layers.12.mlp.up_proj"; "" outside of layers.
std::string block_of(const std::string& module) {
  const size_t layers = module.find(".layers.");
  if (layers == std::string::npos) return {};
  const size_t end = module.find('.', layers + 8);
  return end == std::string::npos ? std::string() : module.substr(0, end);
}

std::string escaped(const std::string& module) {
  std::string out;
  for (const char c : module) out += c == '.' ? std::string("\\.") : std::string(1, c);
  return out;
}

// A block's module path with its number generalised: "model\.layers\.\d+".
std::string any_block(const std::string& block) { return escaped(block.substr(0, block.rfind('.'))) + "\\.\\d+"; }

class Packer {
 public:
  Packer(const std::string& model, const LosslessOptions& options, ThreadPool& pool, const CancelToken* cancel,
         const UnitProgress& progress)
      : options_(options), pool_(pool), cancel_(cancel), progress_(progress), files_(io::resolve_model(model)) {
    if (files_.kind == io::ModelFiles::Kind::kGguf)
      fail(ErrorCode::kInput, "{}: compress reads Hugging Face directories; turn the file into one with fettle convert",
           files_.path);
    config_ = io::read_config(files_);
    if (const auto method = io::read_quant_config(files_, config_).method(); method != io::QuantMethod::kNone)
      fail(ErrorCode::kInput, "{}: expected plain weights, found a checkpoint of method {}", files_.path,
           io::quant_method_name(method));
    source_ = std::make_unique<io::TensorSource>(io::TensorSource::open(files_));
    find_units();
  }

  LosslessReport run(const std::string& out) {
    const auto start = std::chrono::steady_clock::now();
    if (!out.empty()) require_apart(files_.path, out);
    std::vector<io::TensorSpec> specs = plan();
    if (!out.empty()) write(out, std::move(specs));
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  // Matrices of the model in its own order, which is the order of modules in other implementations.
  void find_units() {
    const models::ModelConfig parsed = models::parse_hf_config(config_, path_join(files_.path, "config.json"));
    require_expected_tensors(*source_, parsed);
    for (const ModelTensor& t : model_tensors(parsed)) {
      if (t.kind == ModelTensor::Kind::kVector) continue;
      const bool experts = t.kind == ModelTensor::Kind::kExperts;
      for (int64_t j = 0; j < (experts ? parsed.num_experts : 1); ++j)
        add_matrix(
            published_name(parsed, experts ? fmt::format("{}.{}.{}.weight", t.name, j, t.part) : t.name + ".weight"));
    }
    if (units_.empty())
      fail(ErrorCode::kInput, "{}: found no BF16 matrix; {} stores BF16 weights only", files_.path,
           options_.method == LosslessMethod::kDf11 ? "df11" : "fx3");
  }

  void add_matrix(const std::string& name) {
    const io::TensorEntry* entry = find_model_tensor(*source_, name);
    if (entry == nullptr) return;
    const std::string module = entry->name.substr(0, entry->name.size() - std::string_view(".weight").size());
    if (entry->dtype != DType::kBF16) {
      report_.units.push_back({module, 0, entry->bytes, entry->bytes, fmt::format("is {}, not BF16", entry->type), ""});
      return;
    }
    packed_tensors_.insert(entry->name);
    const std::string block = block_of(module);
    const bool together =
        options_.method == LosslessMethod::kDf11 && options_.unit == Df11Unit::kBlock && !block.empty();
    if (together && !units_.empty() && units_.back().module == block) {
      units_.back().parts.push_back(module.substr(block.size() + 1));
    } else {
      units_.push_back(together ? Unit{block, {module.substr(block.size() + 1)}} : Unit{module, {""}});
    }
  }

  Packed pack(const Unit& unit) const {
    check_cancel(cancel_);
    std::vector<Tensor> matrices;
    for (size_t i = 0; i < unit.parts.size(); ++i) matrices.push_back(source_->get(unit.tensor(i)));
    Packed packed = options_.method == LosslessMethod::kDf11 ? pack_df11(unit, matrices, options_.code, pool_)
                                                             : pack_fx3(unit, matrices.front(), pool_);
    for (size_t i = 0; i < unit.parts.size(); ++i) source_->release(unit.tensor(i));
    return packed;
  }

  // Files are laid out before their content, so every unit is packed once for its sizes and once for its bytes; memory
  // stays at one unit.
  std::vector<io::TensorSpec> plan() {
    std::vector<io::TensorSpec> specs;
    for (const Unit& unit : units_) {
      const Packed packed = pack(unit);
      LosslessUnit r{unit.module, 0, 0, 0, packed.refusal, packed.note};
      for (size_t i = 0; i < unit.parts.size(); ++i) {
        const io::TensorEntry& entry = source_->at(unit.tensor(i));
        r.weights += static_cast<int64_t>(entry.bytes / 2);
        r.bytes_before += entry.bytes;
        if (!packed.refusal.empty()) specs.push_back({entry.name, *entry.dtype, entry.shape});
      }
      for (const auto& [name, tensor] : packed.tensors) {
        specs.push_back({name, tensor.dtype(), tensor.shape()});
        r.bytes_after += tensor.nbytes();
      }
      if (!packed.refusal.empty()) {
        r.bytes_after = r.bytes_before;
        raw_.insert(unit.module);
      }
      report_.units.push_back(std::move(r));
      if (progress_) progress_(++done_, 2 * units_.size());
    }
    for (const io::TensorEntry* entry : source_->entries()) {
      int64_t n = 1;
      for (const int64_t d : entry->shape) n *= d;
      report_.parameters += n;
      report_.bytes_before += entry->bytes;
      if (packed_tensors_.contains(entry->name)) continue;
      if (!entry->dtype)
        fail(ErrorCode::kInput, "{}: tensor \"{}\" has type {}, which cannot be copied", source_->file_of(entry->name),
             printable(entry->name), entry->type);
      specs.push_back({entry->name, *entry->dtype, entry->shape});
    }
    for (const io::TensorSpec& s : specs) report_.bytes_after += s.bytes();
    return specs;
  }

  void write(const std::string& out, std::vector<io::TensorSpec> specs) {
    OutputDir dir(out, options_.overwrite);
    io::CheckpointWriter writer(dir, std::move(specs));
    for (const Unit& unit : units_) {
      if (raw_.contains(unit.module)) {
        for (size_t i = 0; i < unit.parts.size(); ++i) writer.write(unit.tensor(i), source_->get(unit.tensor(i)));
      } else {
        for (const auto& [name, tensor] : pack(unit).tensors) writer.write(name, tensor);
      }
      if (progress_) progress_(++done_, 2 * units_.size());
    }
    for (const io::TensorEntry* entry : source_->entries()) {
      if (packed_tensors_.contains(entry->name)) continue;
      check_cancel(cancel_);
      writer.write(entry->name, source_->get(entry->name));
      source_->release(entry->name);
    }
    writer.finish();
    copy_side_files(files_, dir.path());
    write_file_atomic(dir.file("config.json"), config_with_section().dump(2) + "\n");
    Json job = Json::object();
    job["command"] = "compress";
    job["method"] = options_.method == LosslessMethod::kDf11 ? "df11" : "fx3";
    write_manifest(dir.path(), std::move(job));
    check_cancel(cancel_);
    dir.commit();
  }

  Json config_with_section() const {
    Json config = config_;
    Json section = Json::object();
    if (options_.method == LosslessMethod::kFx3) {
      section["quant_method"] = "fx3";
      section["version"] = 1;
      config["quantization_config"] = std::move(section);
      return config;
    }
    Json threads = Json::array();
    threads.push_back(Json(int64_t{512}));
    section["version"] = "0.5.0";  // upstream's package whose layout this is
    section["threads_per_block"] = std::move(threads);
    section["bytes_per_thread"] = 8;
    section["pattern_dict"] = patterns();
    config["dfloat11_config"] = std::move(section);
    return config;
  }

  // One regex for all blocks with the same matrices; when blocks differ, each kind names its blocks.
  Json patterns() const {
    std::map<std::vector<std::string>, std::vector<std::string>> kinds;  // matrices -> blocks
    for (const Unit& unit : units_)
      if (unit.parts.front() != "") kinds[unit.parts].push_back(unit.module);
    Json out = Json::object();
    for (const Unit& unit : units_) {
      std::string regex = escaped(unit.module);
      Json list = Json::array();
      if (unit.parts.front() != "") {
        for (const std::string& part : unit.parts) list.push_back(part);
        const std::vector<std::string>& blocks = kinds.at(unit.parts);
        std::string names;
        for (const std::string& b : blocks) names += (names.empty() ? "" : "|") + escaped(b);
        regex = kinds.size() == 1 ? any_block(unit.module) : names;
      } else if (const std::string block = block_of(unit.module);
                 !block.empty() && options_.unit == Df11Unit::kMatrix) {
        regex = any_block(block) + escaped(unit.module.substr(block.size()));
      }
      out[regex] = std::move(list);
    }
    return out;
  }

  const LosslessOptions& options_;
  ThreadPool& pool_;
  const CancelToken* cancel_;
  const UnitProgress& progress_;
  io::ModelFiles files_;
  Json config_;
  std::unique_ptr<io::TensorSource> source_;
  std::vector<Unit> units_;
  std::set<std::string> packed_tensors_, raw_;
  LosslessReport report_;
  size_t done_ = 0;
};

}  // namespace

LosslessReport pack_lossless(const std::string& model, const std::string& out, const LosslessOptions& options,
                             ThreadPool& pool, const CancelToken* cancel, const UnitProgress& progress) {
  return Packer(model, options, pool, cancel, progress).run(out);
}

}  // namespace fettle::compress
