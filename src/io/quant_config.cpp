#include "io/quant_config.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/file.h"

namespace fettle::io {
namespace {

struct MethodName {
  std::string_view key;
  QuantMethod method;
};
constexpr MethodName kMethods[] = {
    {"awq", QuantMethod::kAwq},
    {"bitsandbytes", QuantMethod::kBitsAndBytes},
    {"compressed-tensors", QuantMethod::kCompressedTensors},
    {"dfloat11", QuantMethod::kDf11},
    {"fp8", QuantMethod::kFp8},
    {"fp_quant", QuantMethod::kFpQuant},
    {"fx3", QuantMethod::kFx3},
    {"gptq", QuantMethod::kGptq},
    {"modelopt", QuantMethod::kModelOpt},
    {"mxfp4", QuantMethod::kMxfp4},
    {"sinq", QuantMethod::kSinq},
};

struct StrategyName {
  std::string_view key;
  ScaleStrategy strategy;
};
constexpr StrategyName kStrategies[] = {
    {"tensor", ScaleStrategy::kTensor}, {"channel", ScaleStrategy::kChannel},          {"group", ScaleStrategy::kGroup},
    {"block", ScaleStrategy::kBlock},   {"tensor_group", ScaleStrategy::kTensorGroup},
};

constexpr std::string_view kFormats[] = {
    "dense",           "pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized",
    "mxfp8-quantized", "int-quantized",  "float-quantized",      "naive-quantized"};

// Keys of compressed-tensors' QuantizationArgs (quantization/quant_args.py, ac8e2ba8).
constexpr std::string_view kWeightKeys[] = {"num_bits",        "type",           "symmetric", "group_size",  "strategy",
                                            "block_structure", "dynamic",        "actorder",  "scale_dtype", "zp_dtype",
                                            "observer",        "observer_kwargs"};

bool empty_value(const Json& v) {
  return v.is_null() || ((v.is_object() || v.is_array()) && v.size() == 0) || (v.is_bool() && !v.as_bool());
}

}  // namespace

std::string_view quant_method_name(QuantMethod method) {
  for (const MethodName& m : kMethods)
    if (m.method == method) return m.key;
  return "none";
}

// Reads one quantization_config section.
class QuantConfigParser {
 public:
  explicit QuantConfigParser(const JsonReader& section) : section_(section) {}

  QuantConfig parse() {
    out_.method_ = method();
    switch (out_.method_) {
      case QuantMethod::kCompressedTensors:
        compressed_tensors();
        break;
      case QuantMethod::kFpQuant:
        fp_quant();
        break;
      case QuantMethod::kModelOpt:
        modelopt(section_);
        break;
      case QuantMethod::kAwq:
        awq();
        break;
      case QuantMethod::kGptq:
        gptq();
        break;
      case QuantMethod::kMxfp4:
        out_.scheme_ = {"mxfp4", 4, true, true, ScaleStrategy::kGroup, 32};
        break;
      case QuantMethod::kFp8:
        fp8();
        break;
      case QuantMethod::kBitsAndBytes:
        bitsandbytes();
        break;
      case QuantMethod::kFx3:
        section_.at("version").integer(1, 1);
        out_.scheme_ = {"fx3", 16, true};
        break;
      case QuantMethod::kSinq:
        sinq();
        break;
      case QuantMethod::kDf11:
        section_.get("quant_method").fail_here("DFloat11 models carry a dfloat11_config section instead");
      case QuantMethod::kNone:
        break;
    }
    return std::move(out_);
  }

  QuantConfig parse_dfloat11();
  QuantConfig parse_modelopt_file() {
    out_.method_ = QuantMethod::kModelOpt;
    modelopt(section_.at("quantization"));
    return std::move(out_);
  }

 private:
  QuantMethod method() const {
    std::string name = section_.string_or("quant_method", "");
    if (name.empty() && section_.has("config_groups")) name = "compressed-tensors";  // files older than quant_method
    if (name.empty()) section_.at("quant_method").string();
    for (const MethodName& m : kMethods)
      if (m.key == name) return m.method;
    std::string known;
    for (const MethodName& m : kMethods) known += fmt::format("{}{}", known.empty() ? "" : ", ", m.key);
    section_.get("quant_method")
        .fail_here(
            fmt::format("\"{}\" is not supported; known methods: {}. Use the unquantised model or one of these layouts",
                        printable(name, 60), known));
  }

  void read_ignore(const JsonReader& list, const std::string& where) {
    if (list.is_null()) return;
    for (size_t i = 0; i < list.array().size(); ++i) out_.ignore_.emplace_back(list.at(i).string(), where);
  }

  void compressed_tensors();
  void transforms(const JsonReader& config);
  WeightScheme weight_scheme(const JsonReader& weights, const std::string& format) const;
  std::string group_format(const JsonReader& group, const WeightScheme& scheme) const;
  static void check_bits(const JsonReader& weights, const WeightScheme& s);
  void fp_quant();
  void modelopt(const JsonReader& section);
  void awq();
  void gptq();
  void fp8();
  void bitsandbytes();
  void sinq();

  JsonReader section_;
  QuantConfig out_;
};

void QuantConfigParser::compressed_tensors() {
  const JsonReader sparsity = section_.get("sparsity_config");
  const Json* sparse_format = sparsity.value().find("format");
  if (!empty_value(sparsity.value()) &&
      !(sparse_format && sparse_format->is_string() && sparse_format->as_string() == "dense"))
    sparsity.fail_here("sparse checkpoints are not supported; export without sparsity");
  transforms(section_.get("transform_config"));
  const JsonReader groups = section_.at("config_groups");
  for (const auto& [name, value] : groups.object()) {
    const JsonReader group = groups.get(name);
    const JsonReader weights = group.get("weights");
    if (weights.is_null()) continue;  // activation-only group
    QuantConfig::Rule rule;
    const JsonReader targets = group.at("targets");
    for (size_t i = 0; i < targets.array().size(); ++i)
      rule.targets.emplace_back(targets.at(i).string(), fmt::format("{}: {}", targets.source(), targets.path()));
    rule.scheme = weight_scheme(weights, "");
    rule.scheme.format = group_format(group, rule.scheme);
    out_.rules_.push_back(std::move(rule));
  }
  read_ignore(section_.get("ignore"), fmt::format("{}: {}.ignore", section_.source(), section_.path()));
}

// Online block rotations: type "hadamard" on "input" with its inverse on "weight_input" (specs/01 section 3). A
// rotation whose two halves do not meet in one module would change the numbers and is refused.
void QuantConfigParser::transforms(const JsonReader& config) {
  if (empty_value(config.value())) return;
  const JsonReader groups = config.get("config_groups");
  if (empty_value(groups.value())) return;
  for (const auto& [name, value] : groups.object()) {
    const JsonReader group = groups.get(name);
    const std::string type = group.string_or("type", "");
    if (type != "hadamard") group.fail_here("type \"" + printable(type, 40) + "\" is not supported; known: hadamard");
    if (group.boolean_or("randomize", false))
      group.get("randomize").fail_expected("false: random signs are not stored");
    QuantConfig::Rotation rotation;
    rotation.block = group.at("head_dim").integer(2, 1 << 16);
    if ((rotation.block & (rotation.block - 1)) != 0) group.get("head_dim").fail_expected("a power of two");
    const JsonReader apply = group.at("apply");
    std::vector<std::string> targets[2], ignored[2];
    for (size_t i = 0; i < apply.array().size(); ++i) {
      const JsonReader part = apply.at(i);
      const std::string location = part.at("location").string();
      if (location != "input" && location != "weight_input")
        part.get("location")
            .fail_here("\"" + printable(location, 40) + "\" is not supported; known: input, weight_input");
      const size_t half = location == "input" ? 0 : 1;
      for (const auto& [key, list] : {std::pair("targets", &targets[half]), std::pair("ignore", &ignored[half])}) {
        const JsonReader names = part.get(key);
        if (names.is_null()) continue;
        for (size_t j = 0; j < names.array().size(); ++j) list->push_back(names.at(j).string());
      }
    }
    if (targets[0] != targets[1] || ignored[0] != ignored[1] || targets[0].empty())
      apply.fail_here("expected \"input\" and \"weight_input\" with the same targets");
    const std::string where = fmt::format("{}: {}", apply.source(), apply.path());
    for (const std::string& t : targets[0]) rotation.targets.emplace_back(t, where);
    for (const std::string& t : ignored[0]) rotation.ignore.emplace_back(t, where);
    out_.rotations_.push_back(std::move(rotation));
  }
}

// The group's own format in mixed checkpoints, else the top-level one.
std::string QuantConfigParser::group_format(const JsonReader& group, const WeightScheme& scheme) const {
  JsonReader field = group.has("format") ? group.get("format") : section_.get("format");
  std::string format = field.is_null() ? "" : field.string();
  if (format == "mixed-precision" || format.empty())
    field.fail_here("expected a storage format for this group, found \"" + printable(format) + "\"");
  if (std::find(std::begin(kFormats), std::end(kFormats), format) == std::end(kFormats)) {
    std::string known;
    for (const auto f : kFormats) known += fmt::format("{}{}", known.empty() ? "" : ", ", f);
    field.fail_here(fmt::format("\"{}\" is not supported; known formats: {}", printable(format, 60), known));
  }
  const bool fits =
      format == "pack-quantized"         ? !scheme.is_float && scheme.num_bits <= 8
      : format == "nvfp4-pack-quantized" ? scheme.is_float && scheme.num_bits == 4 && scheme.group_size == 16
      : format == "mxfp4-pack-quantized" ? scheme.is_float && scheme.num_bits == 4 && scheme.group_size == 32
      : format == "mxfp8-quantized"      ? scheme.is_float && scheme.num_bits == 8 && scheme.group_size == 32
      : format == "int-quantized"        ? !scheme.is_float
      : format == "float-quantized"      ? scheme.is_float && scheme.num_bits == 8
                                         : true;
  if (!fits)
    field.fail_here(fmt::format("\"{}\" does not fit weights of {} {} bits in groups of {}", format,
                                scheme.is_float ? "float" : "integer", scheme.num_bits, scheme.group_size));
  return format;
}

WeightScheme QuantConfigParser::weight_scheme(const JsonReader& weights, const std::string& format) const {
  for (const auto& [key, value] : weights.object())
    if (std::find(std::begin(kWeightKeys), std::end(kWeightKeys), key) == std::end(kWeightKeys) && !empty_value(value))
      weights.get(key).fail_here("unknown key; it may change how the weights are stored");
  WeightScheme s;
  s.format = format;
  s.num_bits = static_cast<int>(weights.integer_or("num_bits", 8, 1, 16));
  const std::string type = weights.string_or("type", "int");
  if (type != "int" && type != "float") weights.get("type").fail_expected("\"int\" or \"float\"");
  s.is_float = type == "float";
  s.symmetric = weights.boolean_or("symmetric", true);
  s.group_size = weights.integer_or("group_size", 0, -1, int64_t{1} << 24);
  std::string strategy = weights.string_or("strategy", "");
  if (strategy.empty()) strategy = s.group_size > 0 ? "group" : s.group_size == -1 ? "channel" : "tensor";
  const auto* known =
      std::find_if(std::begin(kStrategies), std::end(kStrategies), [&](const auto& k) { return k.key == strategy; });
  if (known == std::end(kStrategies))
    weights.get("strategy")
        .fail_here(fmt::format("\"{}\" is not a weight strategy (tensor, channel, group, block, tensor_group)",
                               printable(strategy, 40)));
  s.strategy = known->strategy;
  const bool grouped = s.strategy == ScaleStrategy::kGroup || s.strategy == ScaleStrategy::kTensorGroup;
  if (grouped && s.group_size <= 0)
    weights.get("group_size").fail_expected("a positive integer for strategy " + strategy);
  if (s.strategy == ScaleStrategy::kBlock) {
    const JsonReader block = weights.at("block_structure");
    if (block.array().size() != 2) block.fail_expected("two integers");
    s.block_rows = block.at(0).integer(1, 1 << 20);
    s.block_cols = block.at(1).integer(1, 1 << 20);
  }
  check_bits(weights, s);
  return s;
}

void QuantConfigParser::check_bits(const JsonReader& weights, const WeightScheme& s) {
  const bool ok = s.is_float ? s.num_bits == 4 || s.num_bits == 8 : s.num_bits >= 1 && s.num_bits <= 8;
  if (!ok)
    weights.get("num_bits").fail_expected(s.is_float ? "4 or 8 for float weights" : "1 to 8 for integer weights");
}

void QuantConfigParser::fp_quant() {
  const std::string dtype = section_.string_or("forward_dtype", "nvfp4");
  if (dtype != "nvfp4" && dtype != "mxfp4") section_.get("forward_dtype").fail_expected("\"nvfp4\" or \"mxfp4\"");
  out_.scheme_ = {dtype,
                  4,
                  true,
                  true,
                  dtype == "nvfp4" ? ScaleStrategy::kTensorGroup : ScaleStrategy::kGroup,
                  dtype == "nvfp4" ? 16 : 32};
  const bool identity = section_.string_or("transform_init", "hadamard") == "identity";
  out_.hadamard_group_size_ = identity ? 0 : section_.integer_or("hadamard_group_size", 32, 1, 1024);
  read_ignore(section_.get("modules_to_not_convert"), section_.source());
}

void QuantConfigParser::modelopt(const JsonReader& section) {
  const std::string algo = section.at("quant_algo").string();
  if (algo == "NVFP4") {
    out_.scheme_ = {"nvfp4", 4, true, true, ScaleStrategy::kTensorGroup, 16};
    if (section.has("group_size") && section.get("group_size").integer() != 16)
      section.get("group_size").fail_expected("16 for NVFP4");
  } else if (algo == "FP8") {
    out_.scheme_ = {"fp8", 8, true, true, ScaleStrategy::kTensor, 0};
  } else {
    section.get("quant_algo").fail_here(fmt::format("\"{}\" is not supported; known: NVFP4, FP8", printable(algo, 40)));
  }
}

void QuantConfigParser::awq() {
  const std::string version = section_.string_or("version", "gemm");
  if (version != "gemm" && version != "GEMM")
    section_.get("version").fail_here("only the gemm layout of AWQ is supported");
  if (section_.integer_or("bits", 4) != 4) section_.get("bits").fail_expected("4");
  const int64_t group = section_.integer_or("group_size", 128, -1, 1 << 24);
  out_.scheme_ = {"awq", 4, false, !section_.boolean_or("zero_point", true), ScaleStrategy::kGroup, group};
}

void QuantConfigParser::gptq() {
  const int64_t bits = section_.at("bits").integer(2, 8);
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) section_.get("bits").fail_expected("2, 3, 4 or 8");
  const std::string layout = section_.string_or("checkpoint_format", "gptq");
  if (layout != "gptq" && layout != "gptq_v2")
    section_.get("checkpoint_format")
        .fail_here("only gptq and gptq_v2 are supported, not \"" + printable(layout, 40) + "\"");
  out_.gptq_v2_ = layout == "gptq_v2";
  const int64_t group = section_.integer_or("group_size", 128, -1, 1 << 24);
  out_.scheme_ = {"gptq", static_cast<int>(bits), false, section_.boolean_or("sym", true), ScaleStrategy::kGroup,
                  group};
}

void QuantConfigParser::fp8() {
  const std::string fmt_name = section_.string_or("fmt", "e4m3");
  if (fmt_name != "e4m3") section_.get("fmt").fail_expected("\"e4m3\"");
  out_.scheme_ = {"fp8", 8, true, true, ScaleStrategy::kTensor, 0};
  if (!section_.has("weight_block_size")) return;
  const JsonReader block = section_.get("weight_block_size");
  if (block.array().size() != 2) block.fail_expected("two integers");
  out_.scheme_.strategy = ScaleStrategy::kBlock;
  out_.scheme_.block_rows = block.at(0).integer(1, 1 << 20);
  out_.scheme_.block_cols = block.at(1).integer(1, 1 << 20);
}

void QuantConfigParser::sinq() {
  SinqLeaf& leaf = out_.sinq_default_;
  leaf.bits = static_cast<int>(section_.integer_or("nbits", 4, 1, 8));
  leaf.group_size = section_.integer_or("group_size", 64, 1, 1 << 24);
  leaf.method = section_.string_or("method", "sinq");
  const std::string tiling = section_.string_or("tiling_mode", "1D");
  if (tiling != "1D" && tiling != "2D") section_.get("tiling_mode").fail_expected("\"1D\" or \"2D\"");
  leaf.square_tiles = tiling == "2D";
  out_.scheme_ = {"sinq", leaf.bits, false, false, ScaleStrategy::kGroup, leaf.group_size};
}

void QuantConfigParser::bitsandbytes() {
  const bool four = section_.boolean_or("load_in_4bit", false) || section_.boolean_or("_load_in_4bit", false);
  if (!four) {
    out_.scheme_ = {"llm.int8", 8, false, true, ScaleStrategy::kChannel, 0};
    return;
  }
  const std::string type = section_.string_or("bnb_4bit_quant_type", "fp4");
  if (type != "nf4")
    section_.get("bnb_4bit_quant_type").fail_here("only nf4 is supported, not \"" + printable(type, 40) + "\"");
  out_.scheme_ = {"nf4", 4, true, true, ScaleStrategy::kGroup, 64};
}

// Constants that the stream layout depends on are upstream's only values; they are checked, not assumed.
QuantConfig QuantConfigParser::parse_dfloat11() {
  out_.method_ = QuantMethod::kDf11;
  const JsonReader threads = section_.at("threads_per_block");
  if (threads.array().size() != 1 || threads.at(0).integer() != 512) threads.fail_expected("[512]");
  if (section_.at("bytes_per_thread").integer() != 8) section_.at("bytes_per_thread").fail_expected("8");
  const JsonReader patterns = section_.at("pattern_dict");
  for (const auto& [regex, value] : patterns.object()) {
    const JsonReader list = patterns.get(regex);
    Df11Pattern pattern{{"re:(?:" + regex + ")\\z", fmt::format("{}: {}", patterns.source(), patterns.path())}, {}};
    for (size_t i = 0; i < list.array().size(); ++i) {
      pattern.modules.push_back(list.at(i).string());
      if (pattern.modules.back().empty()) list.at(i).fail_expected("a module path");
    }
    out_.df11_patterns_.push_back(std::move(pattern));
  }
  out_.scheme_ = {"df11", 16, true};
  return std::move(out_);
}

QuantConfig QuantConfig::parse(const Json& config, const std::string& source) {
  const JsonReader root(config, source);
  if (const JsonReader lossless = root.get("dfloat11_config"); !lossless.is_null()) {
    lossless.object();
    return QuantConfigParser(lossless).parse_dfloat11();
  }
  JsonReader section = root.get("quantization_config");
  if (section.is_null()) section = root.get("compression_config");
  if (section.is_null() && root.has("text_config")) section = root.get("text_config").get("quantization_config");
  if (section.is_null()) return {};
  section.object();
  return QuantConfigParser(section).parse();
}

const WeightScheme* QuantConfig::scheme_for(std::string_view module) const {
  // An embedding table is no "Linear", so that class targets leave it dense; naming it exactly still counts.
  const std::string_view class_name = module.ends_with("embed_tokens") ? "Embedding" : "Linear";
  const auto hit = [&](const NamePattern& p) { return p.matches(module, class_name); };
  if (std::any_of(ignore_.begin(), ignore_.end(), hit)) return nullptr;
  // An exact or regex target is more specific than a class name, as upstream resolves overlaps.
  for (const bool by_class : {false, true})
    for (const Rule& rule : rules_)
      for (const NamePattern& target : rule.targets)
        if ((target.text() == class_name) == by_class && hit(target))
          return rule.scheme.format == "dense" ? nullptr : &rule.scheme;
  return nullptr;
}

void QuantConfig::read_sinq_meta(const Json& json, const std::string& source) {
  const JsonReader root(json, source);
  for (const auto& [name, value] : root.object()) {
    const JsonReader meta = root.get(name).get("meta");
    if (meta.is_null()) continue;
    SinqLeaf leaf = sinq_default_;
    leaf.bits = static_cast<int>(meta.at("nbits").integer(1, 8));
    leaf.group_size = meta.at("group_size").integer(1, 1 << 24);
    leaf.method = meta.string_or("method", leaf.method);
    sinq_leaves_[name] = std::move(leaf);
  }
}

const SinqLeaf& QuantConfig::sinq_leaf(std::string_view module) const {
  const auto it = sinq_leaves_.find(module);
  return it != sinq_leaves_.end() ? it->second : sinq_default_;
}

int64_t QuantConfig::input_hadamard(std::string_view module) const {
  const auto hit = [&](const NamePattern& p) { return p.matches(module, "Linear"); };
  for (const Rotation& r : rotations_)
    if (std::any_of(r.targets.begin(), r.targets.end(), hit) && std::none_of(r.ignore.begin(), r.ignore.end(), hit))
      return r.block;
  return 0;
}

QuantConfig read_quant_config(const ModelFiles& files, const Json& config) {
  QuantConfig parsed = QuantConfig::parse(config, path_join(files.path, "config.json"));
  if (parsed.method() == QuantMethod::kSinq && files.kind == ModelFiles::Kind::kHuggingFace)
    if (const auto meta = files.find("model.safetensors.index.json.meta.json"))
      parsed.read_sinq_meta(parse_json_file(*meta), *meta);
  if (parsed.method() != QuantMethod::kNone || files.kind != ModelFiles::Kind::kHuggingFace) return parsed;
  const std::optional<std::string> side = files.find("hf_quant_config.json");
  if (!side) return parsed;
  const Json json = parse_json_file(*side);
  return QuantConfigParser(JsonReader(json, *side)).parse_modelopt_file();
}

}  // namespace fettle::io
