#include "compress/pipeline/pipeline.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <set>

#include "base/log.h"
#include "compress/checkpoint_files.h"
#include "compress/method.h"
#include "compress/pipeline/allocate.h"
#include "compress/pipeline/fused_scales.h"
#include "compress/pipeline/partial_output.h"
#include "compress/pipeline/rounders.h"
#include "compress/pipeline/smoothing.h"
#include "compress/pipeline/stage_stats.h"
#include "compress/recipe.h"
#include "compress/sha256.h"

namespace fettle::compress {

using models::Block;
using models::BlockLinear;
using models::Stage;

Json RoundedLayer::json() const {
  Json out = Json::object();
  out["name"] = module;
  out["block"] = block;
  out["format"] = format_info(format).name;
  out["group_size"] = group_size;
  out["bits_per_weight"] = bits_per_weight;
  out["objective"] = objective;
  out["rtn_objective"] = rtn_objective;
  out["error"] = error;
  out["baseline_error"] = baseline_error;
  out["damping"] = damping;
  out["retries"] = retries;
  out["fell_back"] = fell_back;
  out["dead_columns"] = dead_columns;
  out["tokens"] = tokens;
  out["seconds"] = seconds;
  out["note"] = note;
  return out;
}

namespace {

double weighted_mean(const PipelineReport& r, double RoundedLayer::*field) {
  std::map<std::string, double> parameters;
  for (const LayerPlan& l : r.plan.layers)
    parameters[l.module] = static_cast<double>(l.rows) * static_cast<double>(l.cols);
  double sum = 0, weights = 0;
  for (const RoundedLayer& l : r.layers) {
    sum += parameters[l.module] * l.*field;
    weights += parameters[l.module];
  }
  return weights > 0 ? sum / weights : 0;
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

RoundedLayer layer_from_json(const Json& json, const std::string& source) {
  const JsonReader r(json, source);
  RoundedLayer l;
  l.module = r.at("name").string();
  l.block = static_cast<int>(r.at("block").integer());
  const FormatInfo* format = find_format(r.at("format").string());
  if (!format) r.at("format").fail_expected("a weight format");
  l.format = format->format;
  l.group_size = r.at("group_size").integer();
  l.bits_per_weight = r.at("bits_per_weight").number();
  l.objective = r.at("objective").number();
  l.rtn_objective = r.at("rtn_objective").number();
  l.error = r.at("error").number();
  l.baseline_error = r.at("baseline_error").number();
  l.damping = r.at("damping").number();
  l.retries = static_cast<int>(r.at("retries").integer());
  l.fell_back = r.at("fell_back").boolean();
  l.dead_columns = r.at("dead_columns").integer();
  l.tokens = r.at("tokens").integer();
  l.seconds = r.at("seconds").number();
  l.note = r.at("note").string();
  return l;
}

// Linear layers of one stage that share their input, and therefore its moments.
struct Sharers {
  int expert = -1;
  std::vector<const BlockLinear*> linears;
  bool borrowed = false;  // an expert that saw too few rows: moments of all tokens
  int64_t own_rows = 0;
};

class Pipeline {
 public:
  Pipeline(const std::string& model, const std::string& out, const PipelineOptions& options, ThreadPool& pool,
           const CancelToken* cancel, const PipelineProgress& progress)
      : options_(options),
        pool_(pool),
        cancel_(cancel),
        progress_(progress),
        files_(io::resolve_model(model)),
        out_(out) {}

  PipelineReport run();

 private:
  void load_samples();
  void choose_formats();
  std::string hash(const io::TensorSource& source) const;
  void resume(PartialOutput& output);
  void process_block(int index, PartialOutput& output);
  void process_stage(Block& block, Stage stage, BlockPass& pass, BlockPass* float_pass, const StageScales& scaled,
                     std::map<std::string, Tensor>* replaced, Json* lines);
  std::vector<Sharers> sharers_of(const Block& block, Stage stage, BlockPass& pass) const;
  size_t sharers_at_once(int64_t width) const;
  void round_sharers(const Sharers& sharers, InputStats& stats, int block, const StageScales& scaled,
                     const std::map<std::string, FormatOptions>& numbers, std::map<std::string, Tensor>* replaced,
                     Json* lines);
  RoundedLayer describe(const LayerPlan& plan, const RoundJob& job, const Rounded& rounded) const;
  const LayerPlan* plan_of(const std::string& module) const {
    const auto it = by_module_.find(module_names_.at(module));
    return it == by_module_.end() ? nullptr : it->second;
  }
  void name_modules(const Block& block);
  // Whether any layer needs the float stream.
  bool cross() const { return needs_float_stream(report_.plan); }
  // AWQ's clip search: integer formats, all layers but q and k, whose products meet in the softmax.
  bool clips(const BlockLinear& l) const {
    const Format format = plan_of(l.module)->stored.format;
    return options_.smoothing == Smoothing::kAwq && (format == Format::kInt4 || format == Format::kInt8) &&
           l.expert < 0 && !l.module.ends_with("q_proj") && !l.module.ends_with("k_proj") &&
           !l.module.ends_with("qkv_proj");
  }

  const PipelineOptions& options_;
  ThreadPool& pool_;
  const CancelToken* cancel_;
  const PipelineProgress& progress_;
  io::ModelFiles files_;
  std::string out_;
  const io::TensorSource* source_ = nullptr;  // during run()
  Calibration calibration_;
  std::unique_ptr<models::BlockModel> model_;
  std::unique_ptr<Stream> quantised_, floats_;
  std::map<std::string, const LayerPlan*> by_module_;  // by name in the file
  std::map<std::string, std::string> module_names_;    // Hugging Face name -> name in the file
  PipelineReport report_;
};

// Everything that decides the bytes of the result, the weights themselves included.
std::string Pipeline::hash(const io::TensorSource& source) const {
  Json all = Json::object();
  const CompressOptions& c = options_.compress;
  all["method"] = c.method;
  all["damping"] = options_.damping;
  all["act_order"] = options_.act_order;
  all["search"] = static_cast<int>(c.search);
  all["propagate"] = options_.propagate;
  all["smoothing"] = static_cast<int>(options_.smoothing);
  all["smooth_alpha"] = options_.smooth_alpha;
  all["expert_tokens"] = options_.expert_tokens;
  all["numbers"] =
      fmt::format("{} {} {} {} {}", c.numbers.group_size, c.numbers.symmetric, static_cast<int>(c.numbers.scale_dtype),
                  static_cast<int>(c.numbers.int_scale), static_cast<int>(c.numbers.mx_scale));
  Json layers = Json::array();
  for (const LayerPlan& l : report_.plan.layers)
    layers.push_back(fmt::format("{} {} {} {} {} {}", l.module, format_info(l.stored.format).name, l.stored.group_size,
                                 l.numbers.symmetric, l.method, l.stored.hadamard));
  all["layers"] = std::move(layers);
  all["config"] = io::read_config(files_);
  std::set<std::string> files;
  for (const io::TensorEntry* e : source.entries()) files.insert(source.file_of(e->name));
  Json weights = Json::array();
  for (const std::string& file : files) weights.push_back(sha256_file(file));
  all["weights"] = std::move(weights);
  Sha256 digest;
  const std::string text = all.dump();
  digest.update(std::as_bytes(std::span(text)));
  for (const auto& sample : calibration_.samples) {
    const uint64_t n = sample.size();
    digest.update(std::as_bytes(std::span(&n, 1)));
    digest.update(std::as_bytes(std::span(sample)));
  }
  return digest.hex();
}

PipelineReport Pipeline::run() {
  const auto start = Clock::now();
  report_.plan = plan_compression(files_.path, options_.compress);
  require_apart(files_.path, out_);
  if (options_.target_bpw > 0) choose_formats();
  for (const LayerPlan& l : report_.plan.layers)
    if (!find_rounder(l.method))
      fail(ErrorCode::kUsage, "{}: method {} is not part of the pipeline", l.module, l.method);
  check_options(report_.plan, options_);
  for (const LayerPlan& l : report_.plan.layers)
    if (l.module.ends_with("lm_head"))
      fail(ErrorCode::kUsage, "--lm-head: the output head is rounded by method rtn only, found method {}",
           options_.compress.method);
  for (const LayerPlan& l : report_.plan.layers) by_module_[l.module] = &l;
  const io::TensorSource source = io::TensorSource::open(files_);
  source_ = &source;
  require_finite(source, pool_);
  report_.estimate = estimate_pipeline(files_.path, report_.plan, options_);
  load_samples();
  PartialOutput output(out_, options_.compress, options_.resume, files_, source, report_.plan, hash(source));
  model_ = models::BlockModel::open(files_.path, {.context = static_cast<int64_t>(calibration_.longest())}, pool_);
  const std::string spill = report_.estimate.spilled ? output.path() : "";
  quantised_ = std::make_unique<Stream>(*model_, calibration_.samples, spill, pool_);
  if (cross()) floats_ = std::make_unique<Stream>(*model_, calibration_.samples, spill, pool_);
  if (!output.outside_written()) output.write_outside({});
  resume(output);
  for (int b = output.finished_blocks(); b < output.blocks(); ++b) process_block(b, output);
  check_cancel(cancel_);
  Json job = Json::object();
  job["command"] = "compress";
  job["method"] = options_.compress.method;
  job["format"] = format_info(options_.compress.format).name;
  job["calibration"] = calibration_.description;
  job["bits_per_weight"] = report_.plan.bits_per_weight();
  job["recipe"] = recipe_json(options_);
  output.commit(std::move(job));
  report_.seconds = seconds_since(start);
  return std::move(report_);
}

void Pipeline::load_samples() {
  if (calibration_.samples.empty()) calibration_ = load_calibration(files_.path, options_.calibration, pool_, cancel_);
  report_.calibration = calibration_.description;
}

// Mixed precision: measures the formats, then plans again with one rule per layer.
void Pipeline::choose_formats() {
  load_samples();
  CompressOptions mixed = options_.compress;
  for (LayerRule& rule : allocate_formats(files_.path, report_.plan, options_, calibration_.samples, pool_, cancel_))
    mixed.rules.push_back(std::move(rule));
  report_.plan = plan_compression(files_.path, mixed);
}

// The streams go through the finished blocks once more: cheaper than keeping them on disk after every block, and it is
// the loader of the result that brings the weights back.
void Pipeline::resume(PartialOutput& output) {
  report_.resumed_blocks = output.finished_blocks();
  if (output.finished_blocks() == 0) return;
  log_info("resuming behind block {} of {}", output.finished_blocks() - 1, output.blocks());
  const auto written = models::BlockModel::open(output.path(), {}, pool_);
  for (int b = 0; b < output.finished_blocks(); ++b) {
    check_cancel(cancel_);
    if (options_.propagate)
      quantised_->forward(written->block(b));
    else
      quantised_->forward(model_->block(b));
    if (floats_) floats_->forward(model_->block(b));
    const Json lines = output.block_report(b);
    for (const Json& line : lines.as_array())
      report_.layers.push_back(layer_from_json(line, fmt::format("{}: block {}", output.path(), b)));
  }
}

void Pipeline::name_modules(const Block& block) {
  module_names_.clear();
  for (const BlockLinear& l : block.linears()) module_names_[l.module] = model_->stored_name(l.module);
}

void Pipeline::process_block(int index, PartialOutput& output) {
  Block block = model_->block(index);
  name_modules(block);
  std::optional<Block> float_block;
  if (floats_) float_block.emplace(model_->block(index));
  std::map<std::string, Tensor> replaced;
  BlockScales scaled = smooth_block({options_, *quantised_, block, float_block ? &*float_block : nullptr,
                                     [&](const std::string& m) { return plan_of(m); },
                                     [&](const std::string& name) { return model_->stored_name(name); }, *source_},
                                    &replaced);
  BlockPass pass(*quantised_, block, options_.mode);
  std::optional<BlockPass> float_pass;
  if (floats_) float_pass.emplace(*floats_, *float_block, options_.mode);
  Json lines = Json::array();
  for (const Stage stage : models::kStages) {
    check_cancel(cancel_);
    pass.advance(stage);
    if (float_pass) float_pass->advance(stage);
    process_stage(block, stage, pass, float_pass ? &*float_pass : nullptr, scaled[stage], &replaced, &lines);
  }
  pass.finish();
  if (float_pass) float_pass->finish();
  check_cancel(cancel_);
  output.write_block(index, replaced, lines);
}

// Moments are kept for this many groups of sharers at a time; experts beyond it take another visit of the stage.
size_t Pipeline::sharers_at_once(int64_t width) const {
  constexpr uint64_t kDefaultBudget = uint64_t{1} << 30;
  const uint64_t budget = options_.mem_limit > 0 ? options_.mem_limit / 4 : kDefaultBudget;
  const auto each = static_cast<uint64_t>(width * width) * sizeof(double) * (cross() ? 2 : 1);
  return static_cast<size_t>(std::max<uint64_t>(budget / each, 1));
}

std::vector<Sharers> Pipeline::sharers_of(const Block& block, Stage stage, BlockPass& pass) const {
  std::vector<Sharers> out;
  for (const BlockLinear& l : block.linears()) {
    if (l.stage != stage || !plan_of(l.module)) continue;
    if (out.empty() || out.back().expert != l.expert) out.push_back({.expert = l.expert, .linears = {}});
    out.back().linears.push_back(&l);
  }
  if (out.empty() || out.front().expert < 0) return out;
  const std::vector<int64_t> rows = count_expert_rows(pass, quantised_->samples(), block.experts());
  for (Sharers& s : out) {
    s.own_rows = rows[static_cast<size_t>(s.expert)];
    s.borrowed = s.own_rows < options_.expert_tokens;
  }
  std::stable_partition(out.begin(), out.end(), [](const Sharers& s) { return s.borrowed; });
  return out;
}

void Pipeline::process_stage(Block& block, Stage stage, BlockPass& pass, BlockPass* float_pass,
                             const StageScales& scaled, std::map<std::string, Tensor>* replaced, Json* lines) {
  const std::vector<Sharers> sharers = sharers_of(block, stage, pass);
  if (sharers.empty()) return;
  std::map<std::string, FormatOptions> numbers;
  for (const Sharers& s : sharers)
    for (auto& [module, options] : fused_numbers(
             s.linears, [&](const std::string& m) { return plan_of(m); }, pool_))
      numbers[module] = options;
  const auto width = static_cast<int64_t>(block.width(stage));
  const size_t at_once = sharers_at_once(width);
  for (size_t begin = 0; begin < sharers.size();) {
    std::vector<std::unique_ptr<InputStats>> stats;
    std::vector<InputStats*> wanted, of_sharer;
    size_t end = begin;
    // Borrowers come first and have one set of moments together, those of all tokens.
    for (; end < sharers.size(); ++end) {
      const bool shared = sharers[end].borrowed && !stats.empty();
      if (!shared && stats.size() == at_once) break;
      if (!shared)
        stats.push_back(std::make_unique<InputStats>(sharers[end].borrowed ? -1 : sharers[end].expert, width, cross(),
                                                     needs_magnitudes(report_.plan)));
      if (!shared) wanted.push_back(stats.back().get());
      of_sharer.push_back(stats.back().get());
    }
    collect(pass, float_pass, block.index(), stage, wanted, pool_);
    for (size_t i = begin; i < end; ++i) {
      check_cancel(cancel_);
      round_sharers(sharers[i], *of_sharer[i - begin], block.index(), scaled, numbers, replaced, lines);
    }
    begin = end;
  }
}

RoundedLayer Pipeline::describe(const LayerPlan& plan, const RoundJob& job, const Rounded& rounded) const {
  RoundedLayer l;
  l.module = plan.module;
  l.format = job.format;
  l.group_size = rounded.packed.group_size;
  l.bits_per_weight = rounded.packed.file_bits_per_weight();
  l.objective = rounded.report.objective;
  l.rtn_objective = rounded.report.rtn_objective;
  l.error = relative_error(job.w, rounded.packed, pool_);
  l.baseline_error = relative_error(job.w, encode(format_info(job.format), job.w, job.numbers, pool_), pool_);
  l.damping = rounded.report.damping_used;
  l.retries = rounded.report.retries;
  l.fell_back = rounded.report.fell_back_to_rtn;
  l.dead_columns = rounded.report.dead_columns;
  l.note = rounded.report.note;
  return l;
}

void Pipeline::round_sharers(const Sharers& sharers, InputStats& stats, int block, const StageScales& scaled,
                             const std::map<std::string, FormatOptions>& numbers,
                             std::map<std::string, Tensor>* replaced, Json* lines) {
  const std::vector<float> mean_abs = stats.mean_abs();
  for (const BlockLinear* l : sharers.linears) {
    const auto start = Clock::now();
    const LayerPlan& plan = *plan_of(l->module);
    const std::vector<float> weight = weight_values(*l->linear);
    const RoundJob job{
        .rounder = *find_rounder(plan.method),
        .options = options_,
        .w = MatView<const float>(weight.data(), static_cast<size_t>(plan.rows), static_cast<size_t>(plan.cols)),
        .h = stats.h.mean(&pool_),
        .g = stats.g ? stats.g->mean(&pool_) : MatView<const float>(),
        .means = stats.mean_rows(),
        .scales = scaled.scales,
        .clip_rows = clips(*l) && plan.stored.hadamard <= 1 ? scaled.sample() : MatView<const float>(),
        .mean_abs = mean_abs,
        .name = plan.module,
        .plan = plan,
        .format = plan.stored.format,
        .numbers = numbers.at(l->module),
        .pool = pool_};
    const Rounded rounded = round_layer(job);
    for (auto& [name, tensor] : io::linear_tensors(plan.module, rounded.packed)) (*replaced)[name] = tensor.copy();
    if (options_.propagate) *l->linear = models::Linear(kernels::prepare(rounded.packed, pool_), l->linear->bias());
    RoundedLayer line = describe(plan, job, rounded);
    line.block = block;
    line.tokens = stats.tokens();
    line.seconds = seconds_since(start);
    if (!scaled.note.empty()) line.note = line.note.empty() ? scaled.note : scaled.note + "; " + line.note;
    if (sharers.borrowed) {
      const std::string why = fmt::format("the expert saw {} tokens: moments of all tokens", sharers.own_rows);
      line.note = line.note.empty() ? why : why + "; " + line.note;
    }
    if (line.objective > line.rtn_objective * (1 + 1e-6))
      log_warning("{}: output error {:.3e} is worse than rounding to nearest gives ({:.3e})", line.module,
                  line.objective, line.rtn_objective);
    lines->push_back(line.json());
    report_.layers.push_back(line);
    if (progress_) progress_(report_.layers.size(), report_.plan.layers.size(), line);
  }
}

}  // namespace

double PipelineReport::mean_error() const { return weighted_mean(*this, &RoundedLayer::error); }
double PipelineReport::mean_objective() const { return weighted_mean(*this, &RoundedLayer::objective); }
double PipelineReport::mean_rtn_objective() const { return weighted_mean(*this, &RoundedLayer::rtn_objective); }

PipelineReport run_pipeline(const std::string& model, const std::string& out, const PipelineOptions& options,
                            ThreadPool& pool, const CancelToken* cancel, const PipelineProgress& progress) {
  return Pipeline(model, out, options, pool, cancel, progress).run();
}

}  // namespace fettle::compress
