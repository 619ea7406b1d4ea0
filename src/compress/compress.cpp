#include "compress/compress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "compress/checkpoint_files.h"
#include "compress/manifest.h"
#include "compress/method.h"
#include "compress/recipe.h"
#include "io/checkpoint_writer.h"
#include "tensor/convert.h"
#include "tensor/formats/nvfp4.h"

namespace fettle::compress {

double CompressReport::mean_error() const {
  double sum = 0, weights = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const double n = static_cast<double>(plan.layers[i].rows) * static_cast<double>(plan.layers[i].cols);
    sum += n * layers[i].error;
    weights += n;
  }
  return weights > 0 ? sum / weights : 0;
}

namespace {

class Job {
 public:
  Job(const std::string& model, const std::string& out, const CompressOptions& options, ThreadPool& pool,
      const CancelToken* cancel, const LayerProgress& progress)
      : options_(options),
        pool_(pool),
        cancel_(cancel),
        progress_(progress),
        files_(io::resolve_model(model)),
        out_(out) {}

  CompressReport run() {
    const auto start = std::chrono::steady_clock::now();
    report_.plan = plan_compression(files_.path, options_);
    for (const LayerPlan& layer : report_.plan.layers) data_free(layer.method);
    require_apart(files_.path, out_);
    OutputDir dir(out_, options_.overwrite);
    const io::TensorSource source = io::TensorSource::open(files_);
    require_finite(source, pool_);
    find_layer_options(source);
    write_tensors(source, dir);
    copy_side_files(files_, dir.path());
    write_quantised_config(files_, report_.plan, dir.path());
    write_manifest(dir.path(), description());
    check_cancel(cancel_);
    dir.commit();
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  static const Method& data_free(const std::string& name) {
    const Method& method = find_method(name);
    if (method.quantise == nullptr)
      fail(ErrorCode::kUsage, "--method: {} needs calibration data, see run_pipeline", name);
    return method;
  }

  // Rotated when the plan says so.
  std::vector<float> load_stored(const io::TensorSource& source, const LayerPlan& layer) const {
    std::vector<float> values = load(source, layer);
    rotate_weights(layer, values, pool_);
    return values;
  }

  std::vector<float> load(const io::TensorSource& source, const LayerPlan& layer) const {
    std::vector<float> values(static_cast<size_t>(layer.rows * layer.cols));
    const Tensor tensor = source.get(layer.module + ".weight");
    const size_t element = dtype_bytes(tensor.dtype());
    pool_.parallel_chunks(values.size(), size_t{1} << 18, [&](size_t begin, size_t end) {
      convert_to_f32(tensor.dtype(), tensor.bytes().data() + begin * element,
                     std::span(values).subspan(begin, end - begin));
    });
    source.release(layer.module + ".weight");
    return values;
  }

  // vLLM fuses q, k, v and gate, up and reads one NVFP4 global scale for the fused matrix: all take the one of the
  // largest weight among them.
  void find_layer_options(const io::TensorSource& source) {
    for (const LayerPlan& layer : report_.plan.layers) layer_options_[layer.module] = layer.numbers;
    std::map<std::string, float> largest;
    for (const LayerPlan& layer : report_.plan.layers) {
      check_cancel(cancel_);
      const std::string group = fusion_group(layer.module);
      if (group.empty() || layer.stored.format != Format::kNvfp4) continue;
      float& a = largest[group];
      for (const float x : load_stored(source, layer)) a = std::max(a, std::fabs(x));
    }
    for (const LayerPlan& layer : report_.plan.layers)
      if (const auto it = largest.find(fusion_group(layer.module)); it != largest.end())
        layer_options_[layer.module].fixed_global_scale = formats::nvfp4_global_scale(it->second);
  }

  void write_tensors(const io::TensorSource& source, const OutputDir& dir) {
    const auto by_tensor = layers_by_tensor(report_.plan);
    const auto layer_of = [&](const io::TensorEntry& entry) {
      const auto it = by_tensor.find(entry.name);
      return it == by_tensor.end() ? nullptr : it->second;
    };
    std::vector<io::TensorSpec> specs;
    for (const io::TensorEntry* entry : source.entries())
      for (io::TensorSpec& s : stored_specs(source, *entry, layer_of(*entry))) specs.push_back(std::move(s));
    io::CheckpointWriter writer(dir, std::move(specs));
    for (const io::TensorEntry* entry : source.entries()) {
      check_cancel(cancel_);
      if (const LayerPlan* layer = layer_of(*entry)) {
        write_layer(source, *layer, writer);
      } else {
        writer.write(entry->name, source.get(entry->name));
        source.release(entry->name);
      }
    }
    writer.finish();
  }

  void write_layer(const io::TensorSource& source, const LayerPlan& layer, io::CheckpointWriter& writer) {
    const auto view = [&](const std::vector<float>& v) {
      return MatView<const float>(v.data(), static_cast<size_t>(layer.rows), static_cast<size_t>(layer.cols));
    };
    const std::vector<float> plain = load(source, layer);
    std::vector<float> stored = plain;
    rotate_weights(layer, stored, pool_);
    const FormatOptions& numbers = layer_options_.at(layer.module);
    const Method& method = data_free(layer.method);
    PackedWeight packed = method.quantise(
        {layer.module, view(stored), layer.stored.format, numbers, pool_, options_.search, options_.kurtosis_gate});
    packed.input.hadamard = layer.stored.hadamard;
    LayerReport r{layer.module, relative_error(view(plain), packed, pool_), 0, packed.file_bits_per_weight()};
    r.baseline_error = r.error;
    if (method.name != "rtn" || options_.search != GridSearch::kAbsMax || layer.stored.hadamard > 1) {
      const PackedWeight rtn = encode(format_info(layer.stored.format), view(plain), layer.numbers, pool_);
      r.baseline_error = relative_error(view(plain), rtn, pool_);
    }
    for (const auto& [name, tensor] : io::linear_tensors(layer.module, packed)) writer.write(name, tensor);
    report_.layers.push_back(r);
    if (progress_) progress_(report_.layers.size(), report_.plan.layers.size(), r);
  }

  Json description() const {
    Json job = Json::object();
    job["command"] = "compress";
    job["method"] = options_.method;
    job["format"] = format_info(options_.format).name;
    job["group_size"] = report_.plan.layers.front().stored.group_size;
    job["symmetric"] = options_.numbers.symmetric;
    job["bits_per_weight"] = report_.plan.bits_per_weight();
    PipelineOptions recipe;
    recipe.compress = options_;
    job["recipe"] = recipe_json(recipe);
    return job;
  }

  const CompressOptions& options_;
  ThreadPool& pool_;
  const CancelToken* cancel_;
  const LayerProgress& progress_;
  io::ModelFiles files_;
  std::string out_;
  std::map<std::string, FormatOptions> layer_options_;
  CompressReport report_;
};

}  // namespace

CompressReport compress(const std::string& model, const std::string& out, const CompressOptions& options,
                        ThreadPool& pool, const CancelToken* cancel, const LayerProgress& progress) {
  return Job(model, out, options, pool, cancel, progress).run();
}

}  // namespace fettle::compress
