#include "demo_report.h"

#include "base/cpu.h"
#include "context.h"
#include "eval/html_report.h"
#include "eval/svg.h"
#include "version.h"

namespace fettle::cli {
namespace {

std::string plus_minus(double value, double error, int digits) {
  return fmt::format("{:.{}f} ± {:.{}f}", value, digits, error, digits);
}

eval::ReportTable demo_table(const DemoResult& r) {
  eval::ReportTable t;
  t.columns = {{"format", false}, {"size"},    {"bits/weight"}, {"model bits"}, {"ppl"},
               {"KL (nats)"},     {"top-1 %"}, {"prefill t/s"}, {"decode t/s"}};
  for (const DemoRow& row : r.rows) {
    const bool original = &row == &r.rows.front();
    const auto& q = row.quality;
    t.rows.push_back({row.name, human_bytes(static_cast<double>(row.bytes)), fmt::format("{:.3f}", row.bits),
                      fmt::format("{:.3f}", row.model_bits), plus_minus(q.model.ppl, q.model.ppl_error, 2),
                      original ? "0" : plus_minus(q.kl.value, q.kl.error, 5),
                      original ? "100" : plus_minus(100 * q.top1_agreement.value, 100 * q.top1_agreement.error, 2),
                      fmt::format("{:.0f}", row.prefill.tokens_per_s), fmt::format("{:.0f}", row.decode.tokens_per_s)});
  }
  return t;
}

std::string explain(const DemoResult& r) {
  const auto& reference = r.rows.front().quality.reference;
  return fmt::format(
      "Perplexity by method {} with windows of {} tokens: {} windows of {}, {} predictions scored; KL of each model "
      "against the original on the same predictions; ± is the standard error. bits/weight counts codes and scales of "
      "the "
      "quantised layers, model bits also the embedding, which stays bf16 (it is a fifth of this small model).",
      eval::method_name(reference.method), reference.ctx, reference.windows, r.text, reference.scored);
}

eval::ScatterPlot scatter(const DemoResult& r, bool kl) {
  eval::ScatterPlot p;
  p.title = kl ? "KL divergence against bits per weight" : "Perplexity against bits per weight";
  p.x_label = "bits per weight of the quantised layers";
  p.y_label = kl ? "mean KL to the original (nats, log scale)" : "perplexity";
  p.log_y = kl;
  p.description = p.title + ":";
  for (const DemoRow& row : r.rows) {
    if (&row == &r.rows.front()) continue;
    const auto& q = row.quality;
    const double y = kl ? q.kl.value : q.model.ppl;
    // Errors of the perplexities are mostly shared (the same text), so bars would only hide the differences.
    p.points.push_back({row.bits, y, kl ? q.kl.error : 0, row.name});
    p.description += fmt::format(" {} {:.3f} bits, {:.5g};", row.name, row.bits, y);
  }
  return p;
}

eval::BarChart speed_bars(const DemoResult& r) {
  eval::BarChart c;
  c.title = "Generation speed";
  c.unit = "tokens/s";
  c.description = "Tokens per second while generating:";
  for (const DemoRow& row : r.rows) {
    c.bars.push_back({row.name, row.decode.tokens_per_s, row.decode.stddev});
    c.description += fmt::format(" {} {:.0f};", row.name, row.decode.tokens_per_s);
  }
  return c;
}

std::string machine(const DemoResult& r) {
  return fmt::format("{}, {} threads, kernels at level {}", cpu_model(), r.threads, isa_name(active_isa()));
}

}  // namespace

std::string demo_text(const DemoResult& r) {
  return fmt::format("{}\n{}\n\n", r.model, machine(r)) + eval::render_text(demo_table(r)) + "\n" + explain(r) +
         fmt::format("\n\nSmallest loss under 5 bits: {}. It continues:\n\n{}\n\ntime: {:.1f} s\n", r.rows[r.best].name,
                     r.generated, r.seconds);
}

std::string demo_html(const DemoResult& r) {
  eval::HtmlReport page;
  page.title = "fettle demo: " + r.model;
  page.lead = "One model in eight forms: how small, how close to the original, how fast.";
  page.facts = {{"text", r.text},
                {"machine", machine(r)},
                {"fettle", fmt::format("{} ({})", kVersion, kCommit)},
                {"time", fmt::format("{:.1f} s", r.seconds)},
                {"repeat with", "fettle demo"}};
  eval::ReportSection table{.heading = "Results", .text = explain(r)};
  table.tables.push_back(demo_table(r));
  eval::ReportSection quality{.heading = "Size and quality",
                              .text =
                                  "Lower and further left is better. The dashed line joins the formats that no other "
                                  "format beats in both directions."};
  quality.charts = {eval::svg_scatter(scatter(r, true)), eval::svg_scatter(scatter(r, false))};
  eval::ReportSection speed{.heading = "Speed",
                            .text =
                                "A model this small fits into the processor's cache, so these figures show the "
                                "kernels' overhead; on models larger than the cache, fewer bytes mean more tokens per "
                                "second (fettle synth and fettle bench measure that)."};
  speed.charts = {eval::svg_bars(speed_bars(r))};
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
  Json rows = Json::array();
  for (const DemoRow& row : r.rows) {
    Json j = Json::object();
    j["format"] = row.name;
    j["bytes"] = row.bytes;
    j["bits_per_weight"] = row.bits;
    j["model_bits_per_weight"] = row.model_bits;
    j["weight_error"] = row.weight_error;
    j["ppl"] = row.quality.model.ppl;
    j["ppl_stderr"] = row.quality.model.ppl_error;
    j["kl"] = row.quality.kl.value;
    j["kl_stderr"] = row.quality.kl.error;
    j["top1_agreement"] = row.quality.top1_agreement.value;
    j["prefill_tokens_per_s"] = row.prefill.tokens_per_s;
    j["decode_tokens_per_s"] = row.decode.tokens_per_s;
    rows.push_back(std::move(j));
  }
  out["rows"] = std::move(rows);
  return out;
}

}  // namespace fettle::cli
