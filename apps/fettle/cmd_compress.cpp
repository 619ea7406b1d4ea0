#include <charconv>
#include <filesystem>

#include "base/log.h"
#include "commands.h"
#include "compress/compress.h"
#include "compress/method.h"
#include "compress/pipeline/pipeline.h"
#include "compress/presinq.h"
#include "compress/recipe.h"
#include "compress_lossless.h"
#include "compress_sweep.h"
#include "context.h"
#include "eval/html_report.h"
#include "formats_help.h"

namespace fettle::cli {
namespace {

constexpr const char* kPreSinq = "pre-sinq";

// A directory that is removed at the end.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

 private:
  std::string path_;
};

// Empty, 0 and -1 stand for flags that were not given: the recipe's value or the default holds.
struct CompressFlags {
  Common common;
  std::string model, out, recipe, sweep, method, format, mx_scale, scale_dtype, code = "upstream", unit = "block";
  std::vector<std::string> ignore, layer_formats;
  int64_t group_size = 0;
  double kurtosis_gate = -1;
  int64_t hadamard = -2;  // -2: not given
  int64_t fold_rounds = 8, fold_repeats = 2;
  bool symmetric = false, asymmetric = false, head = false, overwrite = false, dry_run = false;
  std::string calib, search, smooth, mem_limit, report, bpw_formats;
  int64_t samples = -1, seqlen = -1, seed = -1, expert_tokens = -1;
  double damping = -1, smooth_alpha = -1, target_bpw = 0;
  bool act_order = false, no_act_order = false, no_propagate = false, resume = false;
};

// "PATTERN=FORMAT" or "PATTERN=FORMAT:GROUP"; "dense" leaves the layers as they are.
compress::LayerRule parse_layer_format(const std::string& text) {
  const size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0)
    fail(ErrorCode::kUsage, "--layer-format: expected NAME=FORMAT[:GROUP], found '{}'", printable(text));
  compress::LayerRule rule{.targets = {text.substr(0, at)}};
  std::string format = text.substr(at + 1);
  if (format == "dense") {
    rule.dense = true;
    return rule;
  }
  if (const size_t colon = format.find(':'); colon != std::string::npos) {
    const std::string group = format.substr(colon + 1);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(group.data(), group.data() + group.size(), value);
    if (error != std::errc() || end != group.data() + group.size() || value < -1 || value == 0 || value > 1 << 20)
      fail(ErrorCode::kUsage, "--layer-format: expected a group size behind ':', found '{}'", printable(text));
    rule.group_size = value;
    format.resize(colon);
  }
  rule.format = parse_format(format);
  return rule;
}

// Any format that compress writes, and for pre-sinq the dense ones.
Format parse_target(const std::string& name) {
  const FormatInfo* info = find_format(name);
  return info != nullptr && info->kind == CodeKind::kDense ? info->format : parse_format(name);
}

void apply_format_flags(const CompressFlags& f, compress::CompressOptions* o) {
  if (f.symmetric && f.asymmetric) fail(ErrorCode::kUsage, "--sym and --asym exclude each other");
  if (!f.format.empty()) o->format = parse_target(f.format);
  if (format_info(o->format).kind == CodeKind::kDense)
    fail(ErrorCode::kUsage, "--format {}: dense formats go with --method pre-sinq only", f.format);
  if (f.group_size != 0 && f.group_size != -1) in_range("--group-size", f.group_size, 1, 1 << 20);
  if (f.group_size != 0) o->numbers.group_size = f.group_size;
  if (f.symmetric || f.asymmetric)
    o->numbers.symmetric = f.symmetric;
  else if (!f.method.empty() && compress::zero_points_by_default(o->method, o->format))
    o->numbers.symmetric = false;
  if (!(f.kurtosis_gate == -1 || f.kurtosis_gate >= 0))
    fail(ErrorCode::kUsage, "--sinq-kurtosis-gate: expected 0 or more, found {}", f.kurtosis_gate);
  if (f.kurtosis_gate > 0 && o->method != "sinq") fail(ErrorCode::kUsage, "--sinq-kurtosis-gate needs --method sinq");
  if (f.kurtosis_gate >= 0) o->kurtosis_gate = f.kurtosis_gate;
  if (!f.mx_scale.empty()) o->numbers.mx_scale = compress::parse_mx_scale(f.mx_scale);
  if (!f.scale_dtype.empty()) o->numbers.scale_dtype = compress::parse_scale_dtype(f.scale_dtype);
  if (!f.search.empty()) o->search = compress::parse_search(f.search);
  o->ignore.insert(o->ignore.end(), f.ignore.begin(), f.ignore.end());
  for (const std::string& text : f.layer_formats) o->rules.push_back(parse_layer_format(text));
  if (f.hadamard < -2 || f.hadamard > 1 << 20)
    fail(ErrorCode::kUsage, "--hadamard-group-size: expected a power of two, 0 or -1, found {}", f.hadamard);
  if (f.hadamard != -2) o->hadamard = f.hadamard;
  o->include_head = o->include_head || f.head;
  o->overwrite = f.overwrite ? Overwrite::kYes : Overwrite::kNo;
}

// "8G", "512M", "100000".
uint64_t parse_bytes(const std::string& text) {
  if (text.empty()) return 0;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const int shift = unit.empty() ? 0 : unit == "K" ? 10 : unit == "M" ? 20 : unit == "G" ? 30 : -1;
  if (error != std::errc() || shift < 0 || value == 0 || value > (UINT64_MAX >> 30))
    fail(ErrorCode::kUsage, "--mem-limit: expected a size such as 16G or 512M, found '{}'", printable(text));
  return value << shift;
}

std::vector<Format> parse_formats(const std::string& list) {
  std::vector<Format> out;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    out.push_back(parse_format(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  return out;
}

void apply_calibration_flags(const CompressFlags& f, compress::PipelineOptions* o) {
  if (!f.calib.empty()) o->calibration.source = f.calib;
  if (f.samples != -1) o->calibration.samples = static_cast<int64_t>(in_range("--samples", f.samples, 1, 1 << 20));
  if (f.seqlen != -1) o->calibration.seqlen = static_cast<int64_t>(in_range("--seqlen", f.seqlen, 2, 1 << 20));
  if (f.seed != -1) o->calibration.seed = f.seed;
  if (f.expert_tokens != -1)
    o->expert_tokens = static_cast<int64_t>(in_range("--expert-tokens", f.expert_tokens, 0, int64_t{1} << 40));
}

// Defaults, then the recipe, then flags.
compress::PipelineOptions options_of(const CompressFlags& f) {
  if (f.act_order && f.no_act_order) fail(ErrorCode::kUsage, "--act-order and --no-act-order exclude each other");
  compress::PipelineOptions o;
  if (!f.recipe.empty()) o = compress::read_recipe(f.recipe, o);
  if (!f.method.empty()) compress::use_method(&o, f.method);
  apply_format_flags(f, &o.compress);
  apply_calibration_flags(f, &o);
  if (!f.smooth.empty()) o.smoothing = compress::parse_smoothing(f.smooth);
  if (f.smooth_alpha != -1) {
    if (!(f.smooth_alpha >= 0 && f.smooth_alpha <= 1))
      fail(ErrorCode::kUsage, "--smooth-alpha: expected a number from 0 to 1, found {}", f.smooth_alpha);
    o.smooth_alpha = f.smooth_alpha;
  }
  if (f.damping > 1e6 || (f.damping < 0 && f.damping != -1))
    fail(ErrorCode::kUsage, "--damping: expected a number from 0 to 1e6, found {}", f.damping);
  if (f.damping != -1) o.damping = f.damping;
  if (f.act_order || f.no_act_order) o.act_order = f.act_order;
  if (f.no_propagate) o.propagate = false;
  if (!(f.target_bpw >= 0 && f.target_bpw <= 32))
    fail(ErrorCode::kUsage, "--target-bpw: expected bits per weight up to 32, found {}", f.target_bpw);
  if (f.target_bpw > 0) o.target_bpw = f.target_bpw;
  if (!f.bpw_formats.empty()) o.bpw_formats = parse_formats(f.bpw_formats);
  o.resume = f.resume;
  o.mem_limit = parse_bytes(f.mem_limit);
  return o;
}

std::string format_word(const compress::PipelineOptions& o) {
  return o.target_bpw > 0 ? fmt::format("mixed to {} bits per weight", o.target_bpw)
                          : std::string(format_info(o.compress.format).name);
}

Json plan_json(const compress::CompressPlan& plan) {
  Json out = Json::object();
  out["parameters"] = plan.parameters;
  out["quantised_parameters"] = plan.layer_parameters;
  out["bytes_before"] = plan.bytes_before;
  out["bytes_after"] = plan.bytes_after;
  out["bits_per_weight"] = plan.bits_per_weight();
  out["model_bits_per_weight"] = plan.model_bits_per_weight();
  out["peak_memory"] = plan.peak_memory;
  return out;
}

std::string plan_text(const compress::CompressPlan& plan) {
  const auto mib = [](uint64_t bytes) { return human_bytes(static_cast<double>(bytes)); };
  return fmt::format(
      "layers: {} quantised ({:.3f} M of {:.3f} M parameters), {} left dense\n"
      "size: {} -> {} ({:.2f} times smaller)\n"
      "bits/weight: {:.3f} in the quantised layers, {:.3f} over the model\n",
      plan.layers.size(), static_cast<double>(plan.layer_parameters) / 1e6, static_cast<double>(plan.parameters) / 1e6,
      plan.dense.size(), mib(plan.bytes_before), mib(plan.bytes_after),
      static_cast<double>(plan.bytes_before) / static_cast<double>(plan.bytes_after), plan.bits_per_weight(),
      plan.model_bits_per_weight());
}

void dry_run(const CompressFlags& f, const compress::PipelineOptions& options) {
  const compress::CompressPlan plan = compress::plan_compression(f.model, options.compress);
  if (f.common.json) {
    Json out = plan_json(plan);
    out["method"] = options.compress.method;
    out["format"] = format_word(options);
    out["dry_run"] = true;
    print_json(out);
    return;
  }
  print(plan_text(plan) + fmt::format("peak memory: {}\ndisk: {}\n", human_bytes(static_cast<double>(plan.peak_memory)),
                                      human_bytes(static_cast<double>(plan.bytes_after))));
}

Json report_json(const CompressFlags& f, const compress::PipelineOptions& o, const compress::CompressReport& r) {
  Json out = Json::object();
  out["method"] = o.compress.method;
  out["format"] = format_word(o);
  out["group_size"] = r.plan.layers.front().stored.group_size;
  out["output"] = f.out;
  out["seconds"] = r.seconds;
  out["error"] = r.mean_error();
  const Json plan = plan_json(r.plan);
  for (const auto& [key, value] : plan.as_object()) out[key] = value;
  Json layers = Json::array();
  for (const compress::LayerReport& l : r.layers) {
    Json layer = Json::object();
    layer["name"] = l.module;
    layer["error"] = l.error;
    layer["baseline_error"] = l.baseline_error;
    layer["bits_per_weight"] = l.bits_per_weight;
    layers.push_back(std::move(layer));
  }
  out["layers"] = std::move(layers);
  return out;
}

std::string layer_table(const compress::CompressReport& r) {
  eval::ReportTable table;
  table.columns = {{"layer", false}, {"relative error"}, {"bits/weight"}};
  for (const compress::LayerReport& l : r.layers)
    table.rows.push_back({l.module, fmt::format("{:.6f}", l.error), fmt::format("{:.3f}", l.bits_per_weight)});
  return eval::render_text(table);
}

Json estimate_json(const compress::PipelineEstimate& e) {
  Json out = Json::object();
  out["peak_memory"] = e.memory();
  out["block_bytes"] = e.block;
  out["solver_bytes"] = e.solver;
  out["sample_bytes"] = e.sample;
  out["stream_bytes"] = e.streams;
  out["boundary_bytes"] = e.boundary;
  out["spilled"] = e.spilled;
  out["disk"] = e.disk;
  return out;
}

void dry_run_pipeline(const CompressFlags& f, const compress::PipelineOptions& options) {
  const compress::CompressPlan plan = compress::plan_compression(f.model, options.compress);
  const compress::PipelineEstimate e = compress::estimate_pipeline(f.model, plan, options);
  if (f.common.json) {
    Json out = plan_json(plan);
    const Json estimate = estimate_json(e);
    for (const auto& [key, value] : estimate.as_object()) out[key] = value;
    out["method"] = options.compress.method;
    out["format"] = format_word(options);
    out["dry_run"] = true;
    return print_json(out);
  }
  const auto human = [](uint64_t bytes) { return human_bytes(static_cast<double>(bytes)); };
  print(plan_text(plan) +
        fmt::format("peak memory: {} (block {}, solver {}, one sample {}, activations {}{})\ndisk: {}\n",
                    human(e.memory()), human(e.block), human(e.solver), human(e.sample), human(e.streams + e.boundary),
                    e.spilled ? " on disk" : "", human(e.disk)));
}

Json pipeline_json(const CompressFlags& f, const compress::PipelineOptions& o, const compress::PipelineReport& r) {
  Json out = plan_json(r.plan);
  out["method"] = o.compress.method;
  out["format"] = format_word(o);
  out["output"] = f.out;
  out["seconds"] = r.seconds;
  out["calibration"] = r.calibration;
  out["resumed_blocks"] = r.resumed_blocks;
  out["error"] = r.mean_error();
  out["peak_memory"] = r.estimate.memory();
  Json layers = Json::array();
  for (const compress::RoundedLayer& l : r.layers) layers.push_back(l.json());
  out["layers"] = std::move(layers);
  return out;
}

std::string pipeline_table(const compress::PipelineReport& r) {
  eval::ReportTable table;
  table.columns = {{"layer", false}, {"output error"}, {"rounding"}, {"damping"}, {"seconds"}, {"note", false}};
  for (const compress::RoundedLayer& l : r.layers)
    table.rows.push_back({l.module, fmt::format("{:.3e}", l.objective), fmt::format("{:.3e}", l.rtn_objective),
                          fmt::format("{:.2e}", l.damping), fmt::format("{:.2f}", l.seconds), l.note});
  return eval::render_text(table);
}

void run_pipeline(const CompressFlags& f, const compress::PipelineOptions& options, ThreadPool& pool,
                  const CancelToken& cancel) {
  if (options.calibration.source.empty()) log_info("no --calib: the model writes its own calibration text");
  std::unique_ptr<Progress> progress;
  const auto report = compress::run_pipeline(
      f.model, f.out, options, pool, &cancel, [&](size_t done, size_t total, const compress::RoundedLayer& layer) {
        if (!progress) progress = std::make_unique<Progress>("quantise", total);
        progress->update(done);
        log_debug("{}: output error {:.3e}, rounding {:.3e}", layer.module, layer.objective, layer.rtn_objective);
      });
  progress.reset();
  if (!f.report.empty()) {
    std::string lines;
    for (const compress::RoundedLayer& l : report.layers) lines += l.json().dump() + "\n";
    write_file_atomic(f.report, lines);
  }
  if (f.common.json) return print_json(pipeline_json(f, options, report));
  if (f.common.verbose) print(pipeline_table(report) + "\n");
  print(
      fmt::format("{}: {} {}, calibrated on {}\n", f.out, options.compress.method, format_word(options),
                  report.calibration) +
      plan_text(report.plan) +
      fmt::format("relative squared error of the layer outputs: {:.3e} (rounding to nearest: {:.3e})\ntime: {:.2f} s\n",
                  report.mean_objective(), report.mean_rtn_objective(), report.seconds));
}

// Folds SINQ's factors into the model; with a quantised format, rounds the result.
void run_presinq(CompressFlags f, const CancelToken& cancel);

// Folds SINQ's factors into the model; with a quantised format, rounds the result.
void run_presinq(CompressFlags f, const CancelToken& cancel);

void run_compress(CompressFlags f, const CancelToken& cancel) {
  if (is_lossless(f.method))
    return run_lossless({f.common, f.model, f.out, f.method, f.code, f.unit, f.overwrite, f.dry_run}, cancel);
  if (!f.sweep.empty()) {
    if (f.out.empty()) fail(ErrorCode::kUsage, "fettle compress --sweep: expected -o DIR for the variants");
    return run_sweep({f.common, f.model, f.out, f.sweep, parse_bytes(f.mem_limit)}, cancel);
  }
  if (f.method == kPreSinq) return run_presinq(f, cancel);
  const compress::PipelineOptions options = options_of(f);
  const auto pool = start(f.common);
  const bool calibrated = compress::is_calibrated(options);
  if (f.dry_run) return calibrated ? dry_run_pipeline(f, options) : dry_run(f, options);
  if (f.out.empty()) fail(ErrorCode::kUsage, "fettle compress: expected -o OUT (or --dry-run)");
  if (calibrated) return run_pipeline(f, options, *pool, cancel);
  if (!options.calibration.source.empty() || f.resume || !f.report.empty())
    fail(ErrorCode::kUsage, "--calib, --resume and --report belong to calibrated methods, found method {}",
         options.compress.method);
  std::unique_ptr<Progress> progress;
  const auto report = compress::compress(f.model, f.out, options.compress, *pool, &cancel,
                                         [&](size_t done, size_t total, const compress::LayerReport& layer) {
                                           if (!progress) progress = std::make_unique<Progress>("quantise", total);
                                           progress->update(done);
                                           log_debug("{}: relative error {:.6f}", layer.module, layer.error);
                                         });
  progress.reset();
  if (f.common.json) return print_json(report_json(f, options, report));
  if (f.common.verbose) print(layer_table(report) + "\n");
  print(fmt::format("{}: {} {} groups of {}\n", f.out, options.compress.method, format_word(options),
                    report.plan.layers.front().stored.group_size) +
        plan_text(report.plan) +
        fmt::format("relative squared error of the weights: {:.6f}\ntime: {:.2f} s\n", report.mean_error(),
                    report.seconds));
}

void run_presinq(CompressFlags f, const CancelToken& cancel) {
  if (f.out.empty()) fail(ErrorCode::kUsage, "fettle compress: expected -o OUT");
  if (f.dry_run) fail(ErrorCode::kUsage, "--dry-run: pre-sinq keeps every tensor's size; there is nothing to plan");
  compress::FoldModelOptions fold;
  in_range("--fold-rounds", f.fold_rounds, 1, 64);
  in_range("--fold-repeats", f.fold_repeats, 1, 8);
  fold.fold.rounds = static_cast<int>(f.fold_rounds);
  fold.fold.repeats = static_cast<int>(f.fold_repeats);
  if (f.group_size > 1) fold.fold.tile = f.group_size;
  fold.overwrite = f.overwrite ? Overwrite::kYes : Overwrite::kNo;
  const Format format = parse_target(f.format.empty() ? "bf16" : f.format);
  const bool dense = format_info(format).kind == CodeKind::kDense;
  if (dense) {
    if (!f.format.empty())
      fold.dtype = format == Format::kF32 ? DType::kF32 : format == Format::kF16 ? DType::kF16 : DType::kBF16;
    const auto pool = start(f.common);
    compress::fold_model(f.model, f.out, fold, *pool, &cancel);
    if (!f.common.json)
      return print(fmt::format("{}: pre-sinq, {} rounds, {} repeats\n", f.out, f.fold_rounds, f.fold_repeats));
    Json out = Json::object();
    out["method"] = f.method;
    out["format"] = f.format.empty() ? std::string("as stored") : f.format;
    out["output"] = f.out;
    return print_json(out);
  }
  // The folded model is a scratch directory in F32, so that weights are rounded once.
  const std::string scratch = f.out + ".pre-sinq";
  fold.dtype = DType::kF32;
  fold.overwrite = Overwrite::kNo;
  compress::fold_model(f.model, scratch, fold, *start(f.common), &cancel);
  const ScratchDirectory cleanup(scratch);
  f.model = scratch;
  f.method = "rtn";
  run_compress(f, cancel);
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const compress::Method& m : compress::all_methods()) names.emplace_back(m.name);
  names.insert(names.end(), {"df11", "fx3", kPreSinq});
  return names;
}

std::vector<std::string> compress_formats() {
  std::vector<std::string> names = writable_formats();
  for (const char* dense : {"bf16", "f16", "f32"}) names.emplace_back(dense);
  return names;
}

std::string methods_help() {
  std::string out = "methods:\n";
  for (const compress::Method& m : compress::all_methods()) out += fmt::format("{}: {}\n", m.name, m.summary);
  out += "df11: lossless, the DFloat11 layout; about 68 % of bf16 (options --code and --unit; no --format)\n";
  out += "fx3: lossless, decodes faster than bf16; about 75 % of bf16 (no --format)\n";
  out +=
      "pre-sinq: fold SINQ's column factors into norms and up projections; the result is an ordinary model (default, "
      "or --format bf16, f16, f32), or with another --format that model rounded\n";
  return out;
}

}  // namespace

void add_compress(Program& program) {
  auto f = std::make_shared<CompressFlags>();
  Command& c = program.add("compress", "quantise a model into a new directory").alias("quantize");
  c.positional("MODEL", &f->model, "directory in Hugging Face layout, or hub id");
  c.option("-o,--out", &f->out, "OUT", "directory to write");
  c.option("--recipe", &f->recipe, "FILE", "settings from a YAML file (docs/techniques/recipes.md); flags win over it");
  c.option("--sweep", &f->sweep, "FILE",
           "a recipe with a key sweep: {KEY: [values]}: every combination into its own folder under OUT");
  c.option("--method", &f->method, "M", "how codes are chosen (default rtn)").choices(method_names());
  c.option("--weight-format,--format", &f->format, "F", "number format (default int4)").choices(compress_formats());
  c.option("--group-size", &f->group_size, "N",
           "weights per scale along a row; -1 = one scale per row (default: the format's; int4: 128, 64 or 32, the "
           "largest that divides all layers)");
  c.toggle("--sym", &f->symmetric, "integers without zero points (default but for sinq and asinq)");
  c.toggle("--asym", &f->asymmetric, "integers with zero points");
  c.option("--mx-scale", &f->mx_scale, "RULE", "shared exponent of mxfp4 and mxfp8 (default even)")
      .choices({"even", "floor", "ceil"});
  c.option("--scale-dtype", &f->scale_dtype, "TYPE", "type of integer scales (default bf16)")
      .choices({"bf16", "f16", "f32"});
  c.option("--code", &f->code, "CODE",
           "df11: upstream's code, byte-identical files, or fast, at most 11 bits per code (default upstream)")
      .choices({"upstream", "fast"});
  c.option("--unit", &f->unit, "UNIT", "df11: one code per decoder block or per matrix (default block)")
      .choices({"block", "matrix"});
  c.option("--sinq-kurtosis-gate", &f->kurtosis_gate, "T",
           "sinq: do not balance layers whose weights have a kurtosis above T (default 0 = off; upstream: 5)");
  c.option("--fold-rounds", &f->fold_rounds, "N", "pre-sinq: Sinkhorn rounds per tile (default 8)");
  c.option("--fold-repeats", &f->fold_repeats, "N", "pre-sinq: sweeps over every block (default 2)");
  c.option("--ignore", &f->ignore, "NAME", "leave a module dense: exact name or re:REGEX; may be repeated");
  c.option("--layer-format", &f->layer_formats, "NAME=FORMAT[:GROUP]",
           "another format for some layers, or NAME=dense; exact name, glob or re:REGEX; may be repeated");
  c.option("--target-bpw", &f->target_bpw, "X",
           "mixed precision: choose each layer's format so that X bits per weight are needed on average");
  c.option("--bpw-formats", &f->bpw_formats, "F,F,...", "formats that --target-bpw chooses from (default int4,int8)");
  c.toggle("--lm-head", &f->head,
           "quantise the output head too (left dense by default, as are embeddings and routers)");
  c.option("--calib", &f->calib, "FILE",
           "calibration text, .jsonl with \"text\" or \"messages\", or self = written by the model (default)");
  c.option("--samples", &f->samples, "N", "calibration samples (default 128)");
  c.option("--seqlen", &f->seqlen, "N", "tokens per sample (default 2048)");
  c.option("--seed", &f->seed, "N", "choice of windows, and of self-written text (default 0)");
  c.option("--search", &f->search, "S",
           "scales: absmax, mse, imatrix or hessian (weighted by input power), scale-estimation (int4, int8: from "
           "every sample's mean input); default absmax")
      .choices({"absmax", "mse", "imatrix", "hessian", "scale-estimation"});
  c.option("--smooth", &f->smooth, "S", "scale input channels first: none, awq or smoothquant (default: the method's)")
      .choices({"none", "awq", "smoothquant"});
  c.option("--smooth-alpha", &f->smooth_alpha, "X",
           "smoothquant: how much of the outliers moves into the weights, 0 to 1 (default 0.5)");
  c.option("--hadamard-group-size", &f->hadamard, "N",
           "rotate the inputs of every layer by Hadamard matrices of this size, a power of two; 0 = none, -1 = 16 for "
           "nvfp4, else 32, or what divides (default: -1 for mr-gptq, else 0)");
  c.option("--damping", &f->damping, "X",
           "added to the diagonal of the Hessian: gptq relative to its mean (default 0.01), qronos to its largest "
           "eigenvalue (default 0.001)");
  c.toggle("--act-order", &f->act_order, "strongest inputs first (default)");
  c.toggle("--no-act-order", &f->no_act_order, "columns in their own order");
  c.toggle("--no-propagate", &f->no_propagate, "calibrate every layer on the float model");
  c.option("--expert-tokens", &f->expert_tokens, "N",
           "experts that saw fewer tokens use the statistics of all tokens (default 256)");
  c.option("--mem-limit", &f->mem_limit, "SIZE", "16G, 512M: activations go to disk rather than exceed it");
  c.toggle("--resume", &f->resume, "go on with OUT.partial behind its last finished block");
  c.option("--report", &f->report, "FILE", "write one JSON line per layer");
  c.toggle("--dry-run", &f->dry_run, "print sizes and memory, write nothing");
  c.toggle("--overwrite", &f->overwrite, "replace an existing directory");
  add_common(c, f->common);
  c.details(
      methods_help() + "\n" + formats_help() +
      "\nThe result is a compressed-tensors checkpoint (nf4: bitsandbytes) that fettle, vLLM and transformers load. "
      "Layers are read, quantised and written one at a time. Calibrated methods run the model block by block over the "
      "calibration text; work in progress is in OUT.partial.");
  c.example("fettle compress models/books-5m -o books-int4 --format int4 --group-size 64 --asym", "4-bit integers");
  c.example("fettle compress models/books-5m -o books-df11 --method df11", "two thirds of the size, the same bits");
  c.example("fettle compress models/books-5m --format nvfp4 --dry-run", "how large it would be");
  c.example("fettle compress models/books-5m -o books-gptq --method gptq --calib FILE --samples 64 --seqlen 256",
            "calibrated 4-bit integers");
  c.on_run([f, &program] { run_compress(*f, program.cancel()); });
}

}  // namespace fettle::cli
