#include "demo_report.h"

#include "eval/html_report.h"
#include "version.h"

namespace fettle::cli {

std::string demo_text(const DemoResult& r) {
  return fmt::format("{}\n{}\n\n", r.model, machine_line(r.threads)) + eval::render_text(variants_table(r.rows)) +
         "\n" + variants_explained(r.rows, r.text) +
         fmt::format("\n\nSmallest loss under 5 bits: {}. It continues:\n\n{}\n\ntime: {:.1f} s\n", r.rows[r.best].name,
                     r.generated, r.seconds);
}

std::string demo_html(const DemoResult& r) {
  eval::HtmlReport page;
  page.title = "fettle demo: " + r.model;
  page.lead = "One model in eight forms: how small, how close to the original, how fast.";
  page.facts = {{"text", r.text},
                {"machine", machine_line(r.threads)},
                {"fettle", fmt::format("{} ({})", kVersion, kCommit)},
                {"time", fmt::format("{:.1f} s", r.seconds)},
                {"repeat with", "fettle demo"}};
  eval::ReportSection table{.heading = "Results", .text = variants_explained(r.rows, r.text)};
  table.tables.push_back(variants_table(r.rows));
  eval::ReportSection quality{.heading = "Size and quality",
                              .text =
                                  "Lower and further left is better. The dashed line joins the formats that no other "
                                  "format beats in both directions."};
  quality.charts = {variants_scatter(r.rows, true), variants_scatter(r.rows, false)};
  eval::ReportSection speed{.heading = "Speed",
                            .text =
                                "A model this small fits into the processor's cache, so these figures show the "
                                "kernels' overhead; on models larger than the cache, fewer bytes mean more tokens per "
                                "second (fettle synth and fettle bench measure that)."};
  speed.charts = {variants_speed_bars(r.rows)};
  eval::ReportSection text{
      .heading = "Text from " + r.rows[r.best].name,
      .text = "The format under 5 bits with the smallest KL continues a prompt (temperature 0.8, seed 7)."};
  text.verbatim = r.generated;
  page.sections = {table, quality, speed, text};
  return eval::render_html(page);
}

Json demo_json(const DemoResult& r) {
  Json out = Json::object();
  out["model"] = r.model;
  out["text"] = r.text;
  out["seconds"] = r.seconds;
  out["threads"] = r.threads;
  out["best"] = r.rows[r.best].name;
  out["generated"] = r.generated;
  out["rows"] = variants_json(r.rows);
  return out;
}

}  // namespace fettle::cli
