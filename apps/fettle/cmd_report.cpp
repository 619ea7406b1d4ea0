#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/log.h"
#include "commands.h"
#include "compress/manifest.h"
#include "eval/compare.h"
#include "variants.h"
#include "version.h"

namespace fettle::cli {
namespace {

struct ReportFlags {
  Common common;
  std::string reference, text, out = "report.html";
  std::vector<std::string> variants;
  int64_t context = 512, chunks = 0, top = 20;
  bool no_speed = false, overwrite = false;
};

// What a folder's manifest says about its making; everything empty for models from elsewhere.
struct Origin {
  double bits = 0;
  std::string command;
};

std::string flag_of(const Json& recipe, const char* key, const char* flag) {
  const Json* value = recipe.find(key);
  if (!value || value->is_null()) return {};
  return fmt::format(" {} {}", flag, value->is_string() ? value->as_string() : value->dump());
}

// The recipe in force as a command line; settings that flags cannot say are left to the recipe in the manifest.
std::string command_of(const std::string& reference, const Json& recipe) {
  std::string out = "fettle compress " + reference;
  out += flag_of(recipe, "method", "--method") + flag_of(recipe, "format", "--format") +
         flag_of(recipe, "group_size", "--group-size");
  if (const Json* symmetric = recipe.find("symmetric"); symmetric && symmetric->is_bool() && !symmetric->as_bool())
    out += " --asym";
  out += flag_of(recipe, "search", "--search") + flag_of(recipe, "smooth", "--smooth") +
         flag_of(recipe, "damping", "--damping") + flag_of(recipe, "target_bpw", "--target-bpw");
  if (const Json* c = recipe.find("calibration"))
    out += flag_of(*c, "source", "--calib") + flag_of(*c, "samples", "--samples") + flag_of(*c, "seqlen", "--seqlen") +
           flag_of(*c, "seed", "--seed");
  return out;
}

Origin origin_of(const std::string& reference, const std::string& path) {
  Origin out;
  const std::string manifest = path_join(path, compress::kManifestName);
  if (!is_directory(path) || !file_exists(manifest)) return out;
  const Json json = parse_json_file(manifest);
  const Json* job = json.find("job");
  if (!job) return out;
  if (const Json* bits = job->find("bits_per_weight"); bits && bits->is_number())
    out.bits = JsonReader(*bits, manifest).number();
  if (const Json* recipe = job->find("recipe")) out.command = command_of(reference, *recipe);
  return out;
}

class Report {
 public:
  Report(const ReportFlags& flags, const CancelToken& cancel)
      : flags_(flags), cancel_(cancel), pool_(start(flags.common)), variants_(*pool_, cancel) {}

  void run() {
    if (flags_.text.empty()) fail(ErrorCode::kUsage, "fettle report: expected --text FILE to measure on");
    if (file_exists(flags_.out) && !flags_.overwrite)
      fail(ErrorCode::kUsage, "{}: exists; --overwrite replaces it", flags_.out);
    variants_.add(base_name(flags_.reference), flags_.reference, 0, 0);
    for (const std::string& path : flags_.variants) {
      log_info("comparing the tensors of {}", path);
      origins_.push_back(origin_of(flags_.reference, path));
      differences_.push_back(eval::compare_checkpoints(flags_.reference, path, *pool_, &cancel_));
      variants_.add(base_name(path), path, origins_.back().bits, differences_.back().relative_error);
    }
    log_info("measuring perplexity and KL on {}", flags_.text);
    variants_.measure_quality(flags_.text,
                              static_cast<int64_t>(in_range("--ctx-size", flags_.context, 4, int64_t{1} << 30)),
                              static_cast<int64_t>(in_range("--chunks", flags_.chunks, 0, int64_t{1} << 30)));
    if (!flags_.no_speed) variants_.measure_speed();
    write_file_atomic(flags_.out, html());
    if (flags_.common.json) return print_json(json());
    print(eval::render_text(variants_table(variants_.rows())) + "\n" +
          variants_explained(variants_.rows(), base_name(flags_.text)) + "\n\nreport: " + flags_.out + "\n");
  }

 private:
  // Relative squared error of every tensor that any variant changed, worst first.
  eval::ReportTable layer_table() const {
    std::map<std::string, std::vector<std::string>> cells;
    std::map<std::string, double> worst;
    for (size_t v = 0; v < differences_.size(); ++v)
      for (const eval::TensorDifference& t : differences_[v].tensors) {
        std::vector<std::string>& row = cells[t.name];
        row.resize(differences_.size(), "-");
        row[v] = t.identical ? "0" : fmt::format("{:.3e}", t.relative_error);
        worst[t.name] = std::max(worst[t.name], t.relative_error);
      }
    std::vector<std::pair<double, std::string>> order;
    for (const auto& [name, error] : worst)
      if (error > 0) order.emplace_back(-error, name);
    std::sort(order.begin(), order.end());
    eval::ReportTable table;
    table.columns = {{"tensor", false}};
    for (const std::string& path : flags_.variants) table.columns.push_back({base_name(path)});
    for (const auto& [error, name] : order) {
      std::vector<std::string> row = {name};
      row.insert(row.end(), cells[name].begin(), cells[name].end());
      table.rows.push_back(std::move(row));
    }
    return table;
  }

  std::string html() const {
    const std::vector<VariantRow>& rows = variants_.rows();
    eval::HtmlReport page;
    page.title = "fettle report: " + rows.front().name;
    page.lead = fmt::format("{} variants of one model: how small, how close to the original, how fast.",
                            flags_.variants.size());
    std::string repeat = fmt::format("fettle report {}", flags_.reference);
    for (const std::string& path : flags_.variants) repeat += " " + path;
    repeat += fmt::format(" --text {} -c {} --chunks {} -o {}", flags_.text, flags_.context, flags_.chunks, flags_.out);
    page.facts = {{"text", flags_.text},
                  {"machine", machine_line(pool_->size())},
                  {"fettle", fmt::format("{} ({})", kVersion, kCommit)},
                  {"repeat with", repeat}};
    eval::ReportSection table{.heading = "Results", .text = variants_explained(rows, base_name(flags_.text))};
    table.tables.push_back(variants_table(rows));
    eval::ReportSection quality{.heading = "Size and quality",
                                .text =
                                    "Lower and further left is better. The dashed line joins the variants that no "
                                    "other beats in both directions."};
    quality.charts = {variants_scatter(rows, true), variants_scatter(rows, false)};
    page.sections = {table, quality};
    if (!flags_.no_speed) {
      eval::ReportSection speed{.heading = "Speed", .text = "Measured one after the other on this machine."};
      speed.charts = {variants_speed_bars(rows)};
      page.sections.push_back(speed);
    }
    eval::ReportSection layers{
        .heading = "Error of every layer",
        .text = "Squared error of the weights relative to their size, worst first; 0: every number is the original's."};
    layers.tables.push_back(layer_table());
    eval::ReportSection made{
        .heading = "How each was made",
        .text = "From the manifests; the full recipe is under job.recipe of fettle-manifest.json."};
    eval::ReportTable commands;
    commands.columns = {{"variant", false}, {"command", false}};
    for (size_t i = 0; i < flags_.variants.size(); ++i)
      commands.rows.push_back(
          {base_name(flags_.variants[i]), origins_[i].command.empty() ? "not recorded" : origins_[i].command});
    made.tables.push_back(std::move(commands));
    page.sections.push_back(layers);
    page.sections.push_back(made);
    return eval::render_html(page);
  }

  Json json() const {
    Json out = Json::object();
    out["reference"] = flags_.reference;
    out["text"] = flags_.text;
    out["report"] = flags_.out;
    out["rows"] = variants_json(variants_.rows());
    return out;
  }

  const ReportFlags& flags_;
  const CancelToken& cancel_;
  std::unique_ptr<ThreadPool> pool_;
  Variants variants_;
  std::vector<Origin> origins_;
  std::vector<eval::Comparison> differences_;
};

}  // namespace

void add_report(Program& program) {
  auto f = std::make_shared<ReportFlags>();
  Command& c = program.add("report", "compare compressed variants of a model on one HTML page");
  c.positional("REFERENCE", &f->reference, "the original: directory, .gguf file or hub id");
  c.positional("VARIANT", &f->variants, "its compressed forms");
  c.option("--text", &f->text, "FILE", "text to measure perplexity and KL on");
  c.option("-c,--ctx-size", &f->context, "N", "tokens per window (default 512)");
  c.option("--chunks", &f->chunks, "N", "only the first N windows; 0 = all (default)");
  c.toggle("--no-speed", &f->no_speed, "do not measure speed");
  c.option("-o,--out", &f->out, "FILE", "page to write (default report.html)");
  c.toggle("--overwrite", &f->overwrite, "replace an existing page");
  add_common(c, f->common);
  c.details(
      "Plots bits per weight against KL and perplexity, lists the error of every layer, size, speed and the command "
      "that made each variant. The page needs no network and no script.");
  c.example("fettle report models/books-5m out/* --text book.txt -o report.html", "after a sweep into out/");
  c.on_run([f, &program] { Report(*f, program.cancel()).run(); });
}

}  // namespace fettle::cli
