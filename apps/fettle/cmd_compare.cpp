#include <algorithm>

#include "commands.h"
#include "eval/compare.h"
#include "eval/html_report.h"
#include "eval_json.h"
#include "model_flags.h"

namespace fettle::cli {
namespace {

struct CompareFlags {
  Common common;
  std::string a, b, text;
  int64_t context = 512, chunks = 0, top = 20;
};

eval::KlResult measure_kl(const CompareFlags& f, ThreadPool& pool, const CancelToken& cancel) {
  const std::string raw = eval::load_text(f.text);
  ModelFlags flags;
  flags.model = f.a;
  const auto reference = load_model(flags, pool);
  flags.model = f.b;
  const auto model = load_model(flags, pool);
  const eval::EvalText text = eval::tokenize_text(reference->tokenizer(), f.text, raw);
  eval::WindowOptions windows;
  windows.ctx = in_range("--ctx-size", f.context, 4, int64_t{1} << 30);
  windows.max_windows = in_range("--chunks", f.chunks, 0, int64_t{1} << 30);
  const auto left = eval::model_source(reference->model(), pool, windows.ctx);
  const auto right = eval::model_source(model->model(), pool, windows.ctx);
  eval::LogitSource* candidates[] = {right.get()};
  return eval::compare_to_reference(*left, candidates, text, windows, pool, {{}, &cancel}).front();
}

Json comparison_json(const CompareFlags& f, const eval::Comparison& c) {
  Json out = Json::object();
  out["a"] = f.a;
  out["b"] = f.b;
  out["relative_error"] = c.relative_error;
  out["identical_tensors"] = static_cast<uint64_t>(c.identical);
  Json tensors = Json::array();
  for (const eval::TensorDifference& t : c.tensors) {
    Json entry = Json::object();
    entry["name"] = t.name;
    entry["format_a"] = t.format_a;
    entry["format_b"] = t.format_b;
    entry["relative_error"] = t.relative_error;
    entry["max_abs"] = t.max_abs;
    entry["identical"] = t.identical;
    tensors.push_back(std::move(entry));
  }
  out["tensors"] = std::move(tensors);
  return out;
}

std::string comparison_text(const CompareFlags& f, eval::Comparison c) {
  std::stable_sort(c.tensors.begin(), c.tensors.end(),
                   [](const auto& x, const auto& y) { return x.relative_error > y.relative_error; });
  eval::ReportTable table;
  table.columns = {{"tensor", false}, {"a", false}, {"b", false}, {"relative error"}, {"max |a-b|"}};
  const size_t shown = f.top == 0 ? c.tensors.size() : std::min(c.tensors.size(), static_cast<size_t>(f.top));
  for (size_t i = 0; i < shown; ++i) {
    const auto& t = c.tensors[i];
    table.rows.push_back(
        {t.name, t.format_a, t.format_b, fmt::format("{:.3e}", t.relative_error), fmt::format("{:.3e}", t.max_abs)});
  }
  return eval::render_text(table) +
         fmt::format("{} tensors, {} identical; relative squared error of all matrices: {:.6e}\n", c.tensors.size(),
                     c.identical, c.relative_error);
}

void run_compare(const CompareFlags& f, const CancelToken& cancel) {
  in_range("--top", f.top, 0, 1 << 30);
  const auto pool = start(f.common);
  const eval::Comparison c = eval::compare_checkpoints(f.a, f.b, *pool, &cancel);
  if (f.common.json) {
    Json out = comparison_json(f, c);
    if (!f.text.empty()) out["divergence"] = kl_json(f.b, f.a, measure_kl(f, *pool, cancel));
    return print_json(out);
  }
  print(comparison_text(f, c));
  if (!f.text.empty()) print("\n" + kl_text(measure_kl(f, *pool, cancel)));
}

}  // namespace

void add_compare(Program& program) {
  auto f = std::make_shared<CompareFlags>();
  Command& c = program.add("compare", "difference of two models, tensor by tensor").alias("diff");
  c.positional("A", &f->a, "the original: directory, .gguf file or hub id");
  c.positional("B", &f->b, "the other");
  c.option("--text", &f->text, "FILE", "also run both on this text: KL of B against A");
  c.option("-c,--ctx-size", &f->context, "N", "tokens per window for --text (default 512)");
  c.option("--chunks", &f->chunks, "N", "only the first N windows of --text; 0 = all (default)");
  c.option("--top", &f->top, "N", "print the N tensors that differ most; 0 = all (default 20)");
  add_common(c, f->common);
  c.details(
      "Containers and formats may differ: everything is compared as 32-bit numbers, rows of rotary projections and "
      "Gemma's "
      "norms in the same convention.");
  c.example("fettle compare models/books-5m books-int4 --top 3", "which layers lost most");
  c.on_run([f, &program] { run_compare(*f, program.cancel()); });
}

}  // namespace fettle::cli
