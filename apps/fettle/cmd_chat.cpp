#include "base/log.h"
#include "commands.h"
#include "eval/text_input.h"
#include "model_flags.h"

namespace fettle::cli {
namespace {

struct ChatFlags {
  Common common;
  ModelFlags model;
  SamplingFlags sampling;
  std::string system;
  bool jinja = false;
};

constexpr std::string_view kHelp =
    "/exit or /quit ends, /clear forgets the conversation, /help prints this; anything else is said to the model\n";

Json message(std::string_view role, std::string_view content) {
  Json m = Json::object();
  m["role"] = role;
  m["content"] = content;
  return m;
}

class Chat {
 public:
  Chat(const ChatFlags& flags, const CancelToken& cancel)
      : flags_(flags),
        cancel_(cancel),
        pool_(start(flags.common)),
        llm_(load_model(flags.model, *pool_)),
        engine_(llm_, engine_options(flags.model, *llm_), *pool_) {
    clear();
    if (llm_->chat_templates().empty()) log_warning("{}: no chat template, ChatML is used", flags.model.model);
  }

  void loop() {
    const bool interactive = stdin_is_terminal() && stdout_is_terminal();
    if (interactive) print(kHelp);
    for (std::string line;;) {
      if (interactive) print("> ");
      if (!read_line(line, cancel_)) break;
      if (line == "/exit" || line == "/quit") break;
      if (line == "/clear") {
        clear();
      } else if (line == "/help") {
        print(kHelp);
      } else if (!line.empty()) {
        eval::require_utf8(line, "stdin");
        say(line);
      }
    }
    if (interactive) print("\n");
  }

 private:
  void clear() {
    messages_ = Json::array();
    if (!flags_.system.empty()) messages_.push_back(message("system", flags_.system));
  }

  void say(const std::string& line) {
    messages_.push_back(message("user", line));
    text::ChatRequest chat;
    chat.messages = messages_;
    engine::Request request;
    request.prompt = engine::chat_prompt(*llm_, std::move(chat));
    apply_sampling(flags_.sampling, *llm_, request);
    if (!flags_.common.json)
      request.on_text = [&](std::string_view text, int32_t) {
        print(text);
        return !cancel_.cancelled();
      };
    const engine::Result result = run_request(engine_, std::move(request), cancel_);
    if (flags_.common.json) {
      Json out = message("assistant", result.text);
      out["finish_reason"] = engine::finish_reason_name(result.finish_reason);
      out["prompt_tokens"] = static_cast<uint64_t>(result.prompt_tokens);
      print(out.dump() + "\n");
    } else {
      print("\n");
    }
    log_debug("{}", speed_lines(result));
    if (result.finish_reason == engine::FinishReason::kError) fail(ErrorCode::kNumeric, "{}", result.error);
    cancel_.check();
    messages_.push_back(message("assistant", result.text));
  }

  const ChatFlags& flags_;
  const CancelToken& cancel_;
  std::unique_ptr<ThreadPool> pool_;
  std::shared_ptr<const engine::Llm> llm_;
  engine::Engine engine_;
  Json messages_;
};

}  // namespace

void add_chat(Program& program) {
  auto f = std::make_shared<ChatFlags>();
  Command& c = program.add("chat", "talk to a model, line by line");
  add_model(c, f->model);
  c.option("-sys,--system-prompt,--system", &f->system, "TEXT", "system message");
  c.toggle("--jinja", &f->jinja, "accepted for compatibility: templates are always used");
  add_context(c, f->model);
  add_sampling(c, f->sampling);
  add_common(c, f->common);
  c.details(std::string(kHelp) +
            "Reads standard input, so a conversation can be piped in. What you type is never read as a control token. "
            "With --json every answer is one line {\"role\", \"content\", \"finish_reason\", \"prompt_tokens\"}.");
  c.example("printf 'Hello\\n/exit\\n' | fettle chat MODEL -n 32", "one exchange");
  c.on_run([f, &program] { Chat(*f, program.cancel()).loop(); });
}

}  // namespace fettle::cli
