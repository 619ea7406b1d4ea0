#include "base/file.h"
#include "commands.h"
#include "compress/solve/rotation_study.h"
#include "context.h"
#include "eval/html_report.h"
#include "eval/svg.h"
#include "version.h"

namespace fettle::cli {
namespace {

using compress::RotationError;
using compress::RotationRow;
using compress::RotationTable;

struct StudyFlags {
  Common common;
  std::string topic, out;
  int64_t samples = 1 << 20, seed = 0;
  bool overwrite = false;
};

eval::ReportTable table_of(const RotationTable& t) {
  eval::ReportTable out;
  out.caption = std::string(t.format);
  out.columns = {{"group"},      {"native rel"},  {"rotated rel"}, {"change %"},
                 {"native top"}, {"rotated top"}, {"normal rel"},  {"normal top"}};
  const auto number = [](double v) { return fmt::format("{:.5f}", v); };
  for (const RotationRow& r : t.rows)
    out.rows.push_back({std::to_string(r.group_size), number(r.native.rel), number(r.rotated.rel),
                        fmt::format("{:+.1f}", 100 * (r.rotated.rel / r.native.rel - 1)), number(r.native.top),
                        number(r.rotated.top), number(r.normal.rel), number(r.normal.top)});
  return out;
}

Json json_of(const RotationError& e) {
  Json out = Json::object();
  out["rel"] = e.rel;
  out["top"] = e.top;
  return out;
}

Json json_of(const std::vector<RotationTable>& tables, const StudyFlags& f) {
  Json out = Json::object();
  out["samples"] = f.samples;
  out["seed"] = f.seed;
  Json formats = Json::object();
  for (const RotationTable& t : tables) {
    Json rows = Json::array();
    for (const RotationRow& r : t.rows) {
      Json row = Json::object();
      row["group_size"] = r.group_size;
      row["native"] = json_of(r.native);
      row["rotated"] = json_of(r.rotated);
      row["normal"] = json_of(r.normal);
      rows.push_back(std::move(row));
    }
    formats[std::string(t.format)] = std::move(rows);
  }
  out["formats"] = std::move(formats);
  return out;
}

constexpr char kLead[] =
    "Relative squared error of rounding Laplace numbers in groups as they are (native), rotated by the Hadamard matrix "
    "of the group's size (rotated), and of normal numbers, which rotated ones resemble. top: that of the largest "
    "element "
    "of each group alone.";

std::string render(const std::vector<RotationTable>& tables, const StudyFlags& f) {
  eval::HtmlReport page;
  page.title = "fettle study rotation";
  page.lead = kLead;
  page.facts = {{"samples", std::to_string(f.samples)},
                {"seed", std::to_string(f.seed)},
                {"fettle", fmt::format("{} ({})", kVersion, kCommit)}};
  for (const RotationTable& t : tables) {
    eval::BarChart chart;
    chart.title = fmt::format("{}: change of the error by rotation", t.format);
    chart.unit = "rotated / native";
    chart.description = chart.title + ", by group size:";
    for (const RotationRow& r : t.rows) {
      chart.bars.push_back({std::to_string(r.group_size), r.rotated.rel / r.native.rel, 0});
      chart.description += fmt::format(" {} {:.3f};", r.group_size, chart.bars.back().value);
    }
    eval::ReportSection section;
    section.heading = std::string(t.format);
    section.charts = {eval::svg_bars(chart)};
    section.tables = {table_of(t)};
    page.sections.push_back(std::move(section));
  }
  return eval::render_html(page);
}

void run_study(const StudyFlags& f) {
  const auto pool = start(f.common);
  in_range("--samples", f.samples, 1024, int64_t{1} << 26);
  in_range("--seed", f.seed, 0, INT64_MAX);
  const auto tables = compress::rotation_study({.samples = f.samples, .seed = static_cast<uint64_t>(f.seed)}, *pool);
  if (!f.out.empty()) write_file_atomic(f.out, render(tables, f), f.overwrite ? Overwrite::kYes : Overwrite::kNo);
  if (f.common.json) return print_json(json_of(tables, f));
  std::string text;
  for (const RotationTable& t : tables) text += fmt::format("{}\n{}\n", t.format, eval::render_text(table_of(t)));
  print(text);
}

}  // namespace

void add_study(Program& program) {
  auto f = std::make_shared<StudyFlags>();
  Command& c = program.add("study", "measure when a rotation helps a number format");
  c.positional("TOPIC", &f->topic, "what to study").choices({"rotation"});
  c.option("--samples", &f->samples, "N", "numbers to draw, a multiple of 1024 (default 1048576)");
  c.option("-s,--seed", &f->seed, "N", "seed of the numbers (default 0)");
  c.option("-o,--out", &f->out, "FILE", "write the tables and charts as an HTML page");
  c.toggle("--overwrite", &f->overwrite, "replace an existing file");
  add_common(c, f->common);
  c.details(kLead);
  c.example("fettle study rotation -o rotation.html", "nine formats, groups of 4 to 1024; a few seconds");
  c.on_run([f] { run_study(*f); });
}

}  // namespace fettle::cli
