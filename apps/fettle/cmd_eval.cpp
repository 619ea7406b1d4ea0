#include "base/log.h"
#include "commands.h"
#include "eval/divergence.h"
#include "eval/html_report.h"
#include "eval/logits_file.h"
#include "eval/perplexity.h"
#include "eval_json.h"
#include "model_flags.h"

namespace fettle::cli {
namespace {

struct EvalFlags {
  Common common;
  ModelFlags model;
  std::string task = "ppl", text, method = "llamacpp", reference, save_logits, kl_file;
  int64_t stride = 0, chunks = 0;
  bool overwrite = false;
};

eval::WindowOptions window_options(const EvalFlags& f) {
  eval::WindowOptions o;
  o.method = eval::parse_method(f.method);
  o.ctx = f.model.context == 0 ? 512 : in_range("--ctx-size", f.model.context, 2, int64_t{1} << 30);
  o.stride = in_range("--stride", f.stride, 0, int64_t{1} << 30);
  o.max_windows = in_range("--chunks", f.chunks, 0, int64_t{1} << 30);
  return o;
}

// Windows longer than the model was made for give numbers, but not meaningful ones.
void warn_context(const engine::Llm& llm, size_t ctx) {
  const int64_t declared = llm.model().config().max_position_embeddings;
  if (static_cast<int64_t>(ctx) > declared)
    log_warning("windows of {} tokens exceed the {} positions the model declares (choose -c)", ctx, declared);
}

class Bar {
 public:
  eval::PplProgress hook() {
    return [this](size_t done, size_t total, const eval::PplResult&) {
      if (!bar_) bar_ = std::make_unique<Progress>("evaluate", total);
      bar_->update(done);
    };
  }

 private:
  std::unique_ptr<Progress> bar_;
};

void print_ppl(const EvalFlags& f, const eval::PplResult& r) {
  if (f.common.json) return print_json(ppl_json(f.model.model, r));
  print(ppl_text(r));
}

void print_kl(const EvalFlags& f, const eval::KlResult& r, const std::string& reference) {
  if (f.common.json) return print_json(kl_json(f.model.model, reference, r));
  print(kl_text(r));
}

void run_eval(const EvalFlags& f, const CancelToken& cancel) {
  if (f.text.empty() && f.kl_file.empty()) fail(ErrorCode::kUsage, "fettle eval: expected --text FILE");
  if (!f.reference.empty() && !f.kl_file.empty())
    fail(ErrorCode::kUsage, "fettle eval: expected either --reference or --kl-file, found both");
  eval::WindowOptions windows = window_options(f);
  const std::string raw = f.text.empty() ? std::string() : eval::load_text(f.text);
  const auto pool = start(f.common);
  const auto llm = load_model(f.model, *pool);
  eval::EvalText text = eval::tokenize_text(llm->tokenizer(), f.text, raw);
  Bar bar;
  const eval::RunHooks hooks{bar.hook(), &cancel};
  // hf and lm-eval windows may read one token more than they predict.
  const auto context = [&](size_t ctx) { return ctx + windows.stride / 2 + 1; };
  if (!f.kl_file.empty()) {
    const eval::LogitsFile file = eval::LogitsFile::open(f.kl_file);
    warn_context(*llm, file.ctx());
    const auto source = eval::model_source(llm->model(), *pool, context(file.ctx()));
    return print_kl(f, eval::compare_to_file(file, *source, text, *pool, windows.max_windows, hooks), f.kl_file);
  }
  warn_context(*llm, windows.ctx);
  const auto source = eval::model_source(llm->model(), *pool, context(windows.ctx));
  if (!f.save_logits.empty())
    return print_ppl(f, eval::save_logits(f.save_logits, f.overwrite ? Overwrite::kYes : Overwrite::kNo, *source, text,
                                          windows, *pool, hooks));
  if (f.reference.empty()) return print_ppl(f, eval::perplexity(*source, text, windows, *pool, hooks));
  ModelFlags reference_flags = f.model;
  reference_flags.model = f.reference;
  const auto reference = load_model(reference_flags, *pool);
  if (eval::tokenize_text(reference->tokenizer(), text.name, raw).tokens != text.tokens)
    fail(ErrorCode::kInput, "{} and {} turn the text into different tokens: the two cannot be compared", f.model.model,
         f.reference);
  const auto reference_source = eval::model_source(reference->model(), *pool, context(windows.ctx));
  eval::LogitSource* candidates[] = {source.get()};
  print_kl(f, eval::compare_to_reference(*reference_source, candidates, text, windows, *pool, hooks).front(),
           f.reference);
}

}  // namespace

void add_eval(Program& program) {
  auto f = std::make_shared<EvalFlags>();
  Command& c = program.add("eval", "measure a model: perplexity, KL against a reference").alias("perplexity");
  add_model(c, f->model);
  c.option("--task", &f->task, "TASK", "what to measure (default ppl)").choices({"ppl"});
  c.option("-f,--file,--text", &f->text, "FILE", "UTF-8 text");
  c.option("--method", &f->method, "M", "how the text is cut and which predictions count (default llamacpp)")
      .choices({"llamacpp", "gptq", "hf", "lm-eval"});
  c.option("-c,--max-length,--ctx-size", &f->model.context, "N", "tokens per window (default 512)");
  c.option("--ppl-stride,--stride", &f->stride, "N",
           "step between windows: method hf (default 512), or llamacpp's --ppl-stride");
  c.option("--chunks", &f->chunks, "N", "only the first N windows; 0 = all (default)");
  c.option("--reference", &f->reference, "MODEL",
           "also compare with this model: KL, top-1 agreement, change of probabilities");
  c.option("--kl-divergence-base,--save-logits", &f->save_logits, "FILE",
           "write the model's log-probabilities (llama.cpp's file)");
  c.option("--kl,--kl-file", &f->kl_file, "FILE",
           "compare with log-probabilities written by --save-logits or llama-perplexity");
  c.toggle("--overwrite", &f->overwrite, "replace an existing --save-logits file");
  add_common(c, f->common);
  c.details(
      "methods:\n"
      "llamacpp: windows of -c tokens, the second half of each scored (as llama-perplexity)\n"
      "gptq: windows of -c tokens, all but the first token scored, mean of window means (as in papers)\n"
      "hf: windows of --max-length every --stride tokens, new tokens scored (as in the Hugging Face documentation)\n"
      "lm-eval: every token scored once, also per word (as lm-evaluation-harness)\n"
      "Numbers of different methods, contexts or tokenizers are not comparable; bits per byte are, between tokenizers. "
      "Errors are standard errors of the mean.");
  c.example("fettle eval models/books-5m --text models/text/the-wind-in-the-willows.txt -c 256", "perplexity");
  c.example("fettle eval books-int4 --reference models/books-5m --text FILE -c 256 --json", "KL to the original");
  c.on_run([f, &program] { run_eval(*f, program.cancel()); });
}

}  // namespace fettle::cli
