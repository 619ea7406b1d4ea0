#include "compress/recipe.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/file.h"
#include "compress/method.h"

namespace fettle::compress {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr int kMaxDepth = 32;
constexpr size_t kMaxNodes = 100'000;  // aliases can repeat a node without limit

template <typename T>
struct Word {
  std::string_view name;
  T value;
};
constexpr Word<GridSearch> kSearches[] = {{"absmax", GridSearch::kAbsMax},
                                          {"mse", GridSearch::kMse},
                                          {"imatrix", GridSearch::kImatrix},
                                          {"hessian", GridSearch::kHessian},
                                          {"scale-estimation", GridSearch::kScaleEstimation}};
constexpr Word<Smoothing> kSmoothings[] = {
    {"none", Smoothing::kNone}, {"awq", Smoothing::kAwq}, {"smoothquant", Smoothing::kSmoothQuant}};
constexpr Word<MxScale> kMxScales[] = {{"even", MxScale::kEven}, {"floor", MxScale::kFloor}, {"ceil", MxScale::kCeil}};
constexpr Word<DType> kScaleDTypes[] = {{"bf16", DType::kBF16}, {"f16", DType::kF16}, {"f32", DType::kF32}};

template <typename T, size_t n>
T word(const Word<T> (&words)[n], std::string_view name, std::string_view what) {
  std::string known;
  for (const Word<T>& w : words) {
    if (w.name == name) return w.value;
    known += (known.empty() ? "" : ", ") + std::string(w.name);
  }
  fail(ErrorCode::kUsage, "{}: expected one of {}, found \"{}\"", what, known, printable(name));
}
template <typename T, size_t n>
std::string name_of(const Word<T> (&words)[n], T value) {
  for (const Word<T>& w : words)
    if (w.value == value) return std::string(w.name);
  return {};
}

// Plain scalars become what YAML's core schema says, quoted ones stay text.
Json scalar(const YAML::Node& node) {
  const std::string text = node.Scalar();
  if (node.Tag() == "!") return text;
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  int64_t integer = 0;
  if (YAML::convert<int64_t>::decode(node, integer)) return integer;
  double number = 0;
  if (YAML::convert<double>::decode(node, number)) return number;
  return text;
}

Json to_json(const YAML::Node& node, const std::string& path, int depth, size_t* nodes) {
  const auto line = node.Mark().line + 1;
  if (depth > kMaxDepth)
    fail(ErrorCode::kInput, "{}: line {}: expected at most {} levels of nesting", path, line, kMaxDepth);
  if (++*nodes > kMaxNodes) fail(ErrorCode::kInput, "{}: expected at most {} values", path, kMaxNodes);
  if (node.IsSequence()) {
    Json out = Json::array();
    for (const YAML::Node& item : node) out.push_back(to_json(item, path, depth + 1, nodes));
    return out;
  }
  if (node.IsMap()) {
    Json out = Json::object();
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) fail(ErrorCode::kInput, "{}: line {}: expected a plain key", path, line);
      const std::string key = entry.first.Scalar();
      if (out.find(key) != nullptr)
        fail(ErrorCode::kInput, "{}: line {}: key \"{}\" appears twice", path, entry.first.Mark().line + 1,
             printable(key));
      out[key] = to_json(entry.second, path, depth + 1, nodes);
    }
    return out;
  }
  return node.IsScalar() ? scalar(node) : Json();
}

Json read_yaml(const std::string& path) {
  const std::string text = read_file(path, kMaxBytes);
  try {
    size_t nodes = 0;
    return to_json(YAML::Load(text), path, 0, &nodes);
  } catch (const YAML::Exception& e) {
    fail(ErrorCode::kInput, "{}: line {}, column {}: {}", path, e.mark.line + 1, e.mark.column + 1, e.msg);
  }
}

void require_known(const JsonReader& r, std::span<const std::string_view> known) {
  for (const auto& [key, value] : r.object()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    std::string list;
    for (const std::string_view k : known) list += (list.empty() ? "" : ", ") + std::string(k);
    r.fail_here(fmt::format("unknown key \"{}\"; known are {}", printable(key), list));
  }
}

// A name or a list of names.
std::vector<std::string> names(const JsonReader& r) {
  if (r.value().is_string()) return {r.string()};
  std::vector<std::string> out;
  for (size_t i = 0; i < r.array().size(); ++i) out.push_back(r.at(i).string());
  return out;
}

Format format_at(const JsonReader& r) {
  const FormatInfo* info = find_format(r.string());
  if (!info) r.fail_expected("a number format");
  return info->format;
}

template <typename T, size_t n>
T word_at(const JsonReader& r, const Word<T> (&words)[n]) {
  return word(words, r.string(), fmt::format("{}: {}", r.source(), r.path()));
}

int64_t group_at(const JsonReader& r) {
  const int64_t g = r.integer(-1, 1 << 20);
  if (g == 0) r.fail_expected("a group size, or -1 for one group per row");
  return g;
}

std::string method_at(const JsonReader& r) {
  find_method(r.string());
  return r.string();
}

void read_calibration(const JsonReader& r, CalibrationOptions* c) {
  constexpr std::string_view known[] = {"source", "samples", "seqlen", "seed"};
  require_known(r, known);
  c->source = r.string_or("source", c->source);
  c->samples = r.integer_or("samples", c->samples, 1, 1 << 20);
  c->seqlen = r.integer_or("seqlen", c->seqlen, 2, 1 << 20);
  c->seed = r.integer_or("seed", c->seed);
}

LayerRule read_rule(const JsonReader& r) {
  constexpr std::string_view known[] = {"targets", "format", "group_size", "symmetric", "method", "dense"};
  require_known(r, known);
  LayerRule rule;
  rule.targets = names(r.at("targets"));
  rule.dense = r.boolean_or("dense", false);
  if (r.has("format")) rule.format = format_at(r.at("format"));
  if (r.has("group_size")) rule.group_size = group_at(r.at("group_size"));
  if (r.has("symmetric")) rule.symmetric = r.at("symmetric").boolean();
  if (r.has("method")) rule.method = method_at(r.at("method"));
  return rule;
}

void read_numbers(const JsonReader& r, FormatOptions* numbers) {
  if (r.has("group_size")) numbers->group_size = group_at(r.at("group_size"));
  numbers->symmetric = r.boolean_or("symmetric", numbers->symmetric);
  if (r.has("scale_dtype")) numbers->scale_dtype = word_at(r.at("scale_dtype"), kScaleDTypes);
  if (r.has("mx_scale")) numbers->mx_scale = word_at(r.at("mx_scale"), kMxScales);
}

PipelineOptions from_json(const Json& json, const std::string& path, const PipelineOptions& base) {
  // clang-format off
  constexpr std::string_view known[] = {
      "method", "format", "group_size", "symmetric", "scale_dtype", "mx_scale", "search", "hadamard_group_size", "smooth",
      "smooth_alpha", "damping", "act_order", "propagate", "expert_tokens", "ignore", "lm_head", "target_bpw",
      "bpw_formats", "calibration", "overrides", "sinq_kurtosis_gate"};
  // clang-format on
  const JsonReader r(json, path);
  require_known(r, known);
  PipelineOptions o = base;
  CompressOptions& c = o.compress;
  if (r.has("method")) use_method(&o, method_at(r.at("method")));
  if (r.has("format")) c.format = format_at(r.at("format"));
  read_numbers(r, &c.numbers);
  if (!r.has("symmetric") && zero_points_by_default(c.method, c.format)) c.numbers.symmetric = false;
  c.kurtosis_gate = r.number_or("sinq_kurtosis_gate", c.kurtosis_gate, 0, 1e6);
  if (r.has("search")) c.search = word_at(r.at("search"), kSearches);
  if (r.has("smooth")) o.smoothing = word_at(r.at("smooth"), kSmoothings);
  o.smooth_alpha = r.number_or("smooth_alpha", o.smooth_alpha, 0, 1);
  o.damping = r.number_or("damping", o.damping, 0, 1e6);
  o.act_order = r.boolean_or("act_order", o.act_order);
  o.propagate = r.boolean_or("propagate", o.propagate);
  o.expert_tokens = r.integer_or("expert_tokens", o.expert_tokens, 0, int64_t{1} << 40);
  if (r.has("ignore"))
    for (std::string& name : names(r.at("ignore"))) c.ignore.push_back(std::move(name));
  c.hadamard = r.integer_or("hadamard_group_size", c.hadamard, -1, 1 << 20);
  c.include_head = r.boolean_or("lm_head", c.include_head);
  o.target_bpw = r.number_or("target_bpw", o.target_bpw, 0, 32);
  if (r.has("bpw_formats")) {
    o.bpw_formats.clear();
    const JsonReader list = r.at("bpw_formats");
    for (size_t i = 0; i < list.array().size(); ++i) o.bpw_formats.push_back(format_at(list.at(i)));
  }
  if (r.has("calibration")) read_calibration(r.at("calibration"), &o.calibration);
  if (r.has("overrides"))
    for (size_t i = 0; i < r.at("overrides").array().size(); ++i) c.rules.push_back(read_rule(r.at("overrides").at(i)));
  return o;
}

bool of_calibration(std::string_view key) {
  return key == "source" || key == "samples" || key == "seqlen" || key == "seed";
}

void set_sweep_value(Json* recipe, const std::string& key, const Json& value) {
  if (!of_calibration(key)) {
    (*recipe)[key] = value;
    return;
  }
  if (recipe->find("calibration") == nullptr) (*recipe)["calibration"] = Json::object();
  (*recipe)["calibration"][key] = value;
}

// "int4", "g64", "seed1": methods, formats and other words speak for themselves.
std::string sweep_word(const std::string& key, const Json& value) {
  std::string text = value.is_string() ? value.as_string() : value.dump();
  for (char& c : text)
    if (c == '/' || c == '"' || c == ' ' || c == ':') c = '_';
  if (key == "group_size") return text == "-1" ? "row" : "g" + text;
  if (key == "symmetric") return text == "true" ? "sym" : "asym";
  const bool plain = key == "method" || key == "format" || key == "search" || key == "smooth";
  return plain ? (key == "search" || key == "smooth" ? key + "_" + text : text) : key + text;
}

}  // namespace

GridSearch parse_search(std::string_view name) { return word(kSearches, name, "search"); }
Smoothing parse_smoothing(std::string_view name) { return word(kSmoothings, name, "smooth"); }
MxScale parse_mx_scale(std::string_view name) { return word(kMxScales, name, "mx-scale"); }
DType parse_scale_dtype(std::string_view name) { return word(kScaleDTypes, name, "scale-dtype"); }

PipelineOptions read_recipe(const std::string& path, const PipelineOptions& base) {
  return from_json(read_yaml(path), path, base);
}

std::vector<SweepPoint> read_sweep(const std::string& path, const PipelineOptions& base) {
  Json plain = read_yaml(path);
  const Json* found = plain.find("sweep");
  if (!found) fail(ErrorCode::kInput, "{}: expected a key \"sweep\" with the values to try", path);
  const Json sweep = *found;
  const JsonReader r = JsonReader(sweep, path);
  Json rest = Json::object();
  for (const auto& [key, value] : plain.as_object())
    if (key != "sweep") rest[key] = value;
  size_t jobs = 1;
  for (const auto& [key, value] : r.object()) {
    const size_t n = r.at(key).array().size();
    if (n == 0) r.at(key).fail_expected("a list of values");
    jobs *= n;
    if (jobs > 1000) fail(ErrorCode::kInput, "{}: sweep: expected at most 1000 combinations", path);
  }
  std::vector<SweepPoint> out;
  for (size_t job = 0; job < jobs; ++job) {
    Json one = rest;
    std::string name;
    size_t index = job, below = jobs;
    for (const auto& [key, values] : r.object()) {
      below /= values.as_array().size();
      const Json& value = values.as_array()[index / below];
      index %= below;
      set_sweep_value(&one, key, value);
      name += (name.empty() ? "" : "-") + sweep_word(key, value);
    }
    out.push_back({name, from_json(one, path, base)});
  }
  return out;
}

Json recipe_json(const PipelineOptions& o) {
  const auto list = [](const std::vector<std::string>& all) {
    Json out = Json::array();
    for (const std::string& s : all) out.push_back(s);
    return out;
  };
  const CompressOptions& c = o.compress;
  Json out = Json::object();
  out["method"] = c.method;
  out["format"] = format_info(c.format).name;
  if (c.numbers.group_size != 0) out["group_size"] = c.numbers.group_size;
  out["symmetric"] = c.numbers.symmetric;
  out["scale_dtype"] = name_of(kScaleDTypes, c.numbers.scale_dtype);
  out["mx_scale"] = name_of(kMxScales, c.numbers.mx_scale);
  out["search"] = name_of(kSearches, c.search);
  out["smooth"] = name_of(kSmoothings, o.smoothing);
  out["smooth_alpha"] = o.smooth_alpha;
  if (o.damping >= 0) out["damping"] = o.damping;
  out["act_order"] = o.act_order;
  out["propagate"] = o.propagate;
  out["expert_tokens"] = o.expert_tokens;
  if (!c.ignore.empty()) out["ignore"] = list(c.ignore);
  out["hadamard_group_size"] = c.hadamard;
  if (c.kurtosis_gate > 0) out["sinq_kurtosis_gate"] = c.kurtosis_gate;
  out["lm_head"] = c.include_head;
  if (o.target_bpw > 0) {
    out["target_bpw"] = o.target_bpw;
    Json formats = Json::array();
    for (const Format f : o.bpw_formats) formats.push_back(format_info(f).name);
    if (!o.bpw_formats.empty()) out["bpw_formats"] = std::move(formats);
  }
  if (is_calibrated(o)) {
    Json calibration = Json::object();
    if (!o.calibration.source.empty()) calibration["source"] = o.calibration.source;
    calibration["samples"] = o.calibration.samples;
    calibration["seqlen"] = o.calibration.seqlen;
    calibration["seed"] = o.calibration.seed;
    out["calibration"] = std::move(calibration);
  }
  Json rules = Json::array();
  for (const LayerRule& rule : c.rules) {
    Json one = Json::object();
    one["targets"] = list(rule.targets);
    if (rule.dense) one["dense"] = true;
    if (rule.format) one["format"] = format_info(*rule.format).name;
    if (rule.group_size) one["group_size"] = *rule.group_size;
    if (rule.symmetric) one["symmetric"] = *rule.symmetric;
    if (rule.method) one["method"] = *rule.method;
    rules.push_back(std::move(one));
  }
  if (!c.rules.empty()) out["overrides"] = std::move(rules);
  return out;
}

}  // namespace fettle::compress
