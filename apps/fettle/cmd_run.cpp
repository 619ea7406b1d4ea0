#include "base/file.h"
#include "base/log.h"
#include "commands.h"
#include "eval/text_input.h"
#include "model_flags.h"

namespace fettle::cli {
namespace {

constexpr size_t kMaxPromptBytes = size_t{64} << 20;

struct RunFlags {
  Common common;
  ModelFlags model;
  SamplingFlags sampling;
  std::string file;
  std::vector<std::string> prompts;  // -p; a list tells an empty text from none
  bool echo = false;
};

// -p, -f or piped standard input, in this order.
std::string read_prompt(const RunFlags& f) {
  if (!f.prompts.empty() && !f.file.empty())
    fail(ErrorCode::kUsage, "fettle run: expected either -p or -f, found both");
  std::string text, source;
  if (!f.prompts.empty()) {
    text = f.prompts.back();
    source = "--prompt";
  } else if (!f.file.empty()) {
    text = read_file(f.file, kMaxPromptBytes);
    source = f.file;
  } else if (!stdin_is_terminal()) {
    text = read_stdin(kMaxPromptBytes);
    source = "stdin";
  } else {
    fail(ErrorCode::kUsage, "fettle run: expected a prompt: -p TEXT, -f FILE or standard input");
  }
  eval::require_utf8(text, source);
  return text;
}

Json result_json(const RunFlags& f, const engine::Result& r) {
  Json out = Json::object();
  out["model"] = f.model.model;
  out["text"] = r.text;
  Json tokens = Json::array();
  for (const int32_t t : r.tokens) tokens.push_back(t);
  out["tokens"] = std::move(tokens);
  out["finish_reason"] = engine::finish_reason_name(r.finish_reason);
  out["prompt_tokens"] = static_cast<uint64_t>(r.prompt_tokens);
  out["seed"] = r.seed;
  out["prompt_seconds"] = r.prompt_seconds;
  out["decode_seconds"] = r.decode_seconds;
  return out;
}

void run_command(RunFlags& f, const CancelToken& cancel) {
  const std::string prompt = read_prompt(f);
  const auto pool = start(f.common);
  const auto llm = load_model(f.model, *pool);
  engine::Request request;
  request.prompt = llm->tokenizer().encode(prompt);
  if (request.prompt.empty())
    fail(ErrorCode::kUsage,
         "--prompt: expected some text; this tokenizer adds no BOS, so an empty prompt has no tokens");
  apply_sampling(f.sampling, *llm, request);
  engine::Engine engine(llm, engine_options(f.model, *llm), *pool);
  if (!f.common.json) {
    if (f.echo) print(prompt);
    request.on_text = [&](std::string_view text, int32_t) {
      print(text);
      return !cancel.cancelled();
    };
  }
  const engine::Result result = run_request(engine, std::move(request), cancel);
  if (f.common.json)
    print_json(result_json(f, result));
  else
    print("\n");
  log_debug("finish reason: {}, seed {}\n{}", engine::finish_reason_name(result.finish_reason), result.seed,
            speed_lines(result));
  if (result.finish_reason == engine::FinishReason::kError) fail(ErrorCode::kNumeric, "{}", result.error);
  cancel.check();
}

}  // namespace

void add_run(Program& program) {
  auto f = std::make_shared<RunFlags>();
  Command& c = program.add("run", "continue a text; the result is streamed to stdout").alias("complete");
  add_model(c, f->model);
  c.option("-p,--prompt", &f->prompts, "TEXT", "text to continue (default: standard input when it is piped)");
  c.option("-f,--file", &f->file, "FILE", "read the text from a file");
  c.toggle("--echo", &f->echo, "print the prompt before its continuation");
  add_context(c, f->model);
  add_sampling(c, f->sampling);
  add_common(c, f->common);
  c.details(
      "The prompt is taken as it is; `fettle chat` applies the model's chat template. With --verbose the speeds are "
      "printed "
      "on stderr at the end.");
  c.example("fettle run models/books-5m -p \"The old man looked at the sea and\" -n 40 --temp 0", "greedy text");
  c.on_run([f, &program] { run_command(*f, program.cancel()); });
}

}  // namespace fettle::cli
