#include <algorithm>
#include <charconv>

#include "compress/checkpoint_files.h"
#include "compress/compress.h"
#include "compress/method.h"
#include "compress/model_tensors.h"
#include "compress/solve/transforms.h"
#include "io/linear_writer.h"
#include "io/pattern.h"
#include "io/quant_config.h"
#include "models/config.h"

namespace fettle::compress {

double CompressPlan::bits_per_weight() const {
  double bytes = 0;
  for (const LayerPlan& l : layers) bytes += static_cast<double>(l.bytes_after);
  return layer_parameters > 0 ? 8 * bytes / static_cast<double>(layer_parameters) : 0;
}

double CompressPlan::model_bits_per_weight() const {
  return parameters > 0 ? 8 * static_cast<double>(bytes_after) / static_cast<double>(parameters) : 0;
}

std::string fusion_group(const std::string& module) {
  const size_t dot = module.rfind('.');
  if (dot == std::string::npos) return {};
  const std::string_view part = std::string_view(module).substr(dot + 1);
  const std::string parent = module.substr(0, dot);
  for (const std::string_view name : {"q_proj", "k_proj", "v_proj"})
    if (part == name) return parent + ".qkv";
  for (const std::string_view name : {"gate_proj", "up_proj", "w1", "w3"})
    if (part == name) return parent + ".gate_up";
  return {};
}

int block_of(std::string_view name) {
  const size_t at = name.find("layers.");
  if (at == std::string_view::npos || (at > 0 && name[at - 1] != '.')) return -1;
  int block = -1;
  const std::string_view rest = name.substr(at + 7);
  const char* const last = rest.data() + rest.size();
  const auto [end, error] = std::from_chars(rest.data(), last, block);
  return error == std::errc() && end != last && *end == '.' ? block : -1;
}

namespace {

int64_t hadamard_block(const LayerPlan& layer, Format format, int64_t wanted) {
  if (wanted == 0 || format_info(format).kind == CodeKind::kDense) return 0;
  if (wanted > 0) {
    if ((wanted & (wanted - 1)) != 0)
      fail(ErrorCode::kUsage, "--hadamard-group-size: expected a power of two, found {}", wanted);
    if (layer.cols % wanted != 0)
      fail(ErrorCode::kInput, "{} columns are no multiple of the Hadamard block {}", layer.cols, wanted);
    return wanted;
  }
  int64_t k = format == Format::kNvfp4 ? 16 : 32;
  while (k > 1 && layer.cols % k != 0) k /= 2;
  return k;
}

}  // namespace

void rotate_weights(const LayerPlan& layer, std::span<float> values, ThreadPool& pool) {
  if (layer.stored.hadamard <= 1) return;
  const MatView<float> w(values.data(), static_cast<size_t>(layer.rows), static_cast<size_t>(layer.cols));
  apply_blocks(Transform::kHadamard, layer.stored.hadamard, w, w, pool);
}

void set_format(LayerPlan& layer, Format format, const FormatOptions& base, int64_t hadamard) {
  layer.numbers = base;
  layer.stored = io::plan_weight(format, layer.rows, layer.cols, base);
  layer.stored.col_scales = find_method(layer.method).column_scales;
  layer.stored.hadamard = hadamard_block(layer, format, hadamard);
  if (layer.stored.col_scales && layer.stored.hadamard > 1)
    fail(ErrorCode::kUsage, "--method {}: its column factors do not go with rotated inputs", layer.method);
  if (format == Format::kNF4 && layer.stored.hadamard > 1)
    fail(ErrorCode::kUsage, "--format nf4: bitsandbytes files have no place for rotated inputs");
  layer.numbers.group_size = layer.stored.group_size;
  if (format == Format::kNF4) layer.numbers.scale_dtype = DType::kF32;
  layer.bytes_after = 0;
  for (const io::TensorSpec& spec : io::linear_specs(layer.module, layer.stored)) layer.bytes_after += spec.bytes();
}

namespace {

constexpr std::string_view kWeight = ".weight";

bool is_integer_group(Format format) {
  return format == Format::kInt4 || format == Format::kInt3 || format == Format::kInt2;
}

// Looked up, not multiplied.
bool is_embedding(std::string_view module) { return module.ends_with("embed_tokens"); }

// Routers decide between experts and are too small to gain anything.
bool is_router(std::string_view module) {
  return module.ends_with(".mlp.gate") || module.ends_with(".block_sparse_moe.gate") || module.ends_with(".router");
}

bool is_linear(const io::TensorEntry& entry) {
  return entry.name.ends_with(kWeight) && entry.shape.size() == 2 && entry.dtype &&
         (*entry.dtype == DType::kF32 || *entry.dtype == DType::kF16 || *entry.dtype == DType::kBF16);
}

void require_dense_input(const io::ModelFiles& files, const Json& config) {
  const io::QuantConfig quant = io::read_quant_config(files, config);
  if (quant.method() != io::QuantMethod::kNone)
    fail(ErrorCode::kInput, "{}: expected an unquantised checkpoint, found quantization_config with method {}",
         files.path, io::quant_method_name(quant.method()));
}

class IgnoreList {
 public:
  explicit IgnoreList(const CompressOptions& options) {
    for (const std::string& text : options.ignore) patterns_.emplace_back(text, "--ignore");
    if (!options.include_head) patterns_.emplace_back("lm_head", "--ignore");
  }
  bool matches(std::string_view module) const {
    return std::any_of(patterns_.begin(), patterns_.end(),
                       [&](const io::NamePattern& p) { return p.matches(module, "Linear"); });
  }

 private:
  std::vector<io::NamePattern> patterns_;
};

// Settings of one layer after all rules.
class RuleList {
 public:
  explicit RuleList(const CompressOptions& options) : options_(options) {
    for (const LayerRule& rule : options.rules) {
      if (rule.method) find_method(*rule.method);
      std::vector<io::NamePattern>& patterns = patterns_.emplace_back();
      for (const std::string& text : rule.targets) patterns.emplace_back(text, "override");
    }
  }

  bool dense(const std::string& module) const {
    bool out = false;
    each(module, [&](const LayerRule& rule) { out = rule.dense || (out && !rule.format); });
    return out;
  }

  // `resolved`: the model-wide options with the group size of the default format.
  void apply(LayerPlan& layer, const std::string& file, const CompressOptions& resolved) const {
    Format format = options_.format;
    std::optional<int64_t> group;
    FormatOptions numbers = resolved.numbers;
    layer.method = options_.method;
    each(layer.module, [&](const LayerRule& rule) {
      if (rule.format) format = *rule.format;
      if (rule.format || rule.group_size) group = rule.group_size;
      if (rule.symmetric) numbers.symmetric = *rule.symmetric;
      if (rule.method) layer.method = *rule.method;
    });
    // A group size that was found for one format says nothing about another.
    if (group)
      numbers.group_size = *group;
    else if (format != options_.format)
      numbers.group_size = takes_groups(format) ? options_.numbers.group_size : 0;
    try {
      set_format(layer, format, numbers, options_.hadamard);
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kInput) throw;
      fail(ErrorCode::kInput,
           "{}: tensor \"{}.weight\" [{}, {}]: {} (choose a --group-size that divides, -1 for one group "
           "per row, or leave the layer out with --ignore)",
           file, printable(layer.module), layer.rows, layer.cols, e.what());
    }
  }

 private:
  static bool takes_groups(Format format) { return is_integer_group(format) || format == Format::kInt8; }
  void each(const std::string& module, const std::function<void(const LayerRule&)>& body) const {
    for (size_t i = 0; i < patterns_.size(); ++i)
      if (std::any_of(patterns_[i].begin(), patterns_[i].end(),
                      [&](const io::NamePattern& p) { return p.matches(module, "Linear"); }))
        body(options_.rules[i]);
  }

  const CompressOptions& options_;
  std::vector<std::vector<io::NamePattern>> patterns_;
};

std::string module_of(const io::TensorEntry& entry) {
  return entry.name.substr(0, entry.name.size() - std::min(entry.name.size(), kWeight.size()));
}

// Without a --group-size, a format that takes any group uses its default or the largest half, quarter, ... down to 32
// that divides the columns of every layer, so that one choice serves the whole model.
CompressOptions with_group_size(CompressOptions options, const io::TensorSource& source, const IgnoreList& ignore) {
  int64_t group = format_info(options.format).default_group;
  if (options.numbers.group_size != 0 || group <= 0 || !is_integer_group(options.format)) return options;
  const auto divides_all = [&] {
    for (const io::TensorEntry* entry : source.entries()) {
      const std::string module = module_of(*entry);
      if (!is_linear(*entry) || is_embedding(module) || is_router(module) || ignore.matches(module)) continue;
      if (entry->shape[1] % std::min(group, entry->shape[1]) != 0) return false;
    }
    return true;
  };
  while (group >= 64 && !divides_all()) group /= 2;
  if (divides_all()) options.numbers.group_size = group;
  return options;
}

void require_search(GridSearch search, const LayerPlan& layer) {
  const Format format = layer.stored.format;
  if (search == GridSearch::kScaleEstimation && format != Format::kInt4 && format != Format::kInt8)
    fail(ErrorCode::kUsage, "{}: search scale-estimation: expected int4 or int8, found {}", printable(layer.module),
         format_info(format).name);
}

}  // namespace

CompressPlan plan_compression(const std::string& model, const CompressOptions& options) {
  find_method(options.method);
  const io::ModelFiles files = io::resolve_model(model);
  if (files.kind == io::ModelFiles::Kind::kGguf)
    fail(ErrorCode::kInput, "{}: compress reads Hugging Face directories; turn the file into one with fettle convert",
         files.path);
  const Json config = io::read_config(files);
  require_dense_input(files, config);
  const models::ModelConfig parsed = models::parse_hf_config(config, path_join(files.path, "config.json"));
  const io::TensorSource source = io::TensorSource::open(files);
  require_expected_tensors(source, parsed);
  const IgnoreList ignore(options);
  const RuleList rules(options);
  const CompressOptions chosen = with_group_size(options, source, ignore);
  CompressPlan plan;
  for (const io::TensorEntry* entry : source.entries()) {
    int64_t elements = 1;
    for (const int64_t d : entry->shape) elements *= d;
    plan.parameters += elements;
    plan.bytes_before += entry->bytes;
    const std::string module = module_of(*entry);
    if (!is_linear(*entry) || is_embedding(module)) {
      plan.bytes_after += entry->bytes;
      continue;
    }
    if (is_router(module) || ignore.matches(module) || rules.dense(module)) {
      plan.dense.push_back(module);
      plan.bytes_after += entry->bytes;
      continue;
    }
    LayerPlan layer{module, entry->shape[0], entry->shape[1], entry->bytes, 0, {}, {}, {}};
    rules.apply(layer, source.file_of(entry->name), chosen);
    require_search(options.search, layer);
    plan.bytes_after += layer.bytes_after;
    plan.layer_parameters += elements;
    const uint64_t copies = layer.stored.col_scales ? 2 : 1;  // the balanced weight beside the original
    const auto weights = static_cast<uint64_t>(elements) * sizeof(float) * copies;
    plan.peak_memory = std::max(plan.peak_memory, weights + 3 * layer.bytes_after + entry->bytes);
    plan.layers.push_back(std::move(layer));
  }
  if (parsed.tie_word_embeddings && !source.has("lm_head.weight")) plan.dense.push_back("lm_head");
  if (plan.layers.empty())
    fail(ErrorCode::kInput, "{}: found no linear layer to quantise (all {} are ignored)", files.path,
         plan.dense.size());
  return plan;
}

}  // namespace fettle::compress
