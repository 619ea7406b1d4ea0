#include "variants.h"

#include "base/cpu.h"
#include "base/file.h"
#include "base/log.h"
#include "eval/svg.h"
#include "model_flags.h"

namespace fettle::cli {
namespace {

std::string plus_minus(double value, double error, int digits) {
  return fmt::format("{:.{}f} ± {:.{}f}", value, digits, error, digits);
}

std::string rate(const eval::SpeedResult& r) {
  return r.tokens_per_s > 0 ? fmt::format("{:.0f}", r.tokens_per_s) : std::string("-");
}

}  // namespace

void Variants::add(const std::string& name, const std::string& path, double bits, double weight_error) {
  ModelFlags flags;
  flags.model = path;
  const auto llm = load_model(flags, pool_);
  VariantRow row{.name = name};
  for (const auto& t : llm->model().tensors()) row.bytes += t.bytes;
  row.model_bits = 8 * static_cast<double>(row.bytes) / static_cast<double>(llm->model().parameters());
  row.bits = bits > 0 ? bits : row.model_bits;
  row.weight_error = weight_error;
  rows_.push_back(row);
  llms_.push_back(llm);
}

void Variants::measure_quality(const std::string& text_path, int64_t context, int64_t chunks) {
  const eval::EvalText text =
      eval::tokenize_text(llms_[0]->tokenizer(), base_name(text_path), eval::load_text(text_path));
  std::vector<std::unique_ptr<eval::LogitSource>> sources;
  std::vector<eval::LogitSource*> candidates;
  for (const auto& llm : llms_)
    sources.push_back(eval::model_source(llm->model(), pool_, static_cast<size_t>(context)));
  for (size_t i = 1; i < sources.size(); ++i) candidates.push_back(sources[i].get());
  eval::WindowOptions windows;
  windows.ctx = static_cast<size_t>(context);
  windows.max_windows = static_cast<size_t>(chunks);
  std::unique_ptr<Progress> bar;
  const auto progress = [&](size_t done, size_t total, const eval::PplResult&) {
    if (!bar) bar = std::make_unique<Progress>("evaluate", total);
    bar->update(done);
  };
  const auto results = eval::compare_to_reference(*sources[0], candidates, text, windows, pool_, {progress, &cancel_});
  rows_[0].quality.model = rows_[0].quality.reference = results.front().reference;
  rows_[0].quality.top1_agreement.value = 1;
  for (size_t i = 0; i < results.size(); ++i) rows_[i + 1].quality = results[i];
}

void Variants::measure_speed() {
  eval::SpeedOptions options;
  options.repetitions = 3;
  options.max_seconds = 1;  // keeps it short on a busy machine
  for (size_t i = 0; i < llms_.size(); ++i) {
    rows_[i].prefill = eval::measure_speed(llms_[i]->model(), {256, 0, 0}, options, {}, pool_, &cancel_);
    rows_[i].decode = eval::measure_speed(llms_[i]->model(), {0, 32, 0}, options, {}, pool_, &cancel_);
  }
}

eval::ReportTable variants_table(const std::vector<VariantRow>& rows) {
  eval::ReportTable t;
  t.columns = {{"variant", false}, {"size"},    {"bits/weight"}, {"model bits"}, {"ppl"},
               {"KL (nats)"},      {"top-1 %"}, {"prefill t/s"}, {"decode t/s"}};
  for (const VariantRow& row : rows) {
    const bool original = &row == &rows.front();
    const auto& q = row.quality;
    t.rows.push_back({row.name, human_bytes(static_cast<double>(row.bytes)), fmt::format("{:.3f}", row.bits),
                      fmt::format("{:.3f}", row.model_bits), plus_minus(q.model.ppl, q.model.ppl_error, 2),
                      original ? "0" : plus_minus(q.kl.value, q.kl.error, 5),
                      original ? "100" : plus_minus(100 * q.top1_agreement.value, 100 * q.top1_agreement.error, 2),
                      rate(row.prefill), rate(row.decode)});
  }
  return t;
}

std::string variants_explained(const std::vector<VariantRow>& rows, const std::string& text) {
  const auto& reference = rows.front().quality.reference;
  return fmt::format(
      "Perplexity by method {} with windows of {} tokens: {} windows of {}, {} predictions scored; KL of each model "
      "against the original on the same predictions; ± is the standard error. bits/weight counts codes and scales of "
      "the quantised layers, model bits also the embedding and whatever else stays as it is.",
      eval::method_name(reference.method), reference.ctx, reference.windows, text, reference.scored);
}

std::string variants_scatter(const std::vector<VariantRow>& rows, bool kl) {
  eval::ScatterPlot p;
  p.title = kl ? "KL divergence against bits per weight" : "Perplexity against bits per weight";
  p.x_label = "bits per weight of the quantised layers";
  p.y_label = kl ? "mean KL to the original (nats, log scale)" : "perplexity";
  p.log_y = kl;
  p.description = p.title + ":";
  for (const VariantRow& row : rows) {
    if (&row == &rows.front()) continue;
    const auto& q = row.quality;
    const double y = kl ? q.kl.value : q.model.ppl;
    // Errors of the perplexities are mostly shared (the same text), so bars would only hide the differences.
    p.points.push_back({row.bits, y, kl ? q.kl.error : 0, row.name});
    p.description += fmt::format(" {} {:.3f} bits, {:.5g};", row.name, row.bits, y);
  }
  return eval::svg_scatter(p);
}

std::string variants_speed_bars(const std::vector<VariantRow>& rows) {
  eval::BarChart c;
  c.title = "Generation speed";
  c.unit = "tokens/s";
  c.description = "Tokens per second while generating:";
  for (const VariantRow& row : rows) {
    c.bars.push_back({row.name, row.decode.tokens_per_s, row.decode.stddev});
    c.description += fmt::format(" {} {:.0f};", row.name, row.decode.tokens_per_s);
  }
  return eval::svg_bars(c);
}

Json variants_json(const std::vector<VariantRow>& rows) {
  Json out = Json::array();
  for (const VariantRow& row : rows) {
    Json j = Json::object();
    j["name"] = row.name;
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
    out.push_back(std::move(j));
  }
  return out;
}

std::string machine_line(int threads) {
  return fmt::format("{}, {} threads, kernels at level {}", cpu_model(), threads, isa_name(active_isa()));
}

}  // namespace fettle::cli
