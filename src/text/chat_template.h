#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/jinja/runtime.h"

namespace fettle::text {

namespace jinja {
struct Program;
}

// Raised by a template's raise_exception(message): a request the template refuses. message() is the template's text.
using TemplateException = jinja::TemplateException;

// A rendered prompt. Bytes that came from the request are told apart from bytes the template wrote, so that control
// tokens typed by a user stay text: a special token may be recognised only inside one span with from_input false.
struct Rendered {
  struct Span {
    size_t begin, end;  // bytes of `text`
    bool from_input;
  };
  std::string text;
  std::vector<Span> spans;        // neighbours differ in origin; together they cover text
  bool default_template = false;  // the model brought no template: ChatML was used

  std::string_view view(const Span& span) const {
    return std::string_view(text).substr(span.begin, span.end - span.begin);
  }
};

struct RenderOptions {
  RenderOptions();        // out of line: g++ 12 warns of an uninitialised std::function when it sees through it
  jinja::Options engine;  // sandbox, clock, limits
  // Context variables whose strings count as written by the template: special tokens.
  std::vector<std::string> trusted = {"bos_token", "eos_token", "unk_token", "pad_token",
                                      "sep_token", "cls_token", "mask_token"};
};

// A parsed chat template: the Jinja subset that published models use, described in docs/chat-templates.md. Immutable
// and safe to render from several threads.
class ChatTemplate {
 public:
  // How the template treats message["content"], found by rendering a probe.
  enum class Content {
    kText,   // strings only: lists of parts must be joined first
    kBoth,   // strings and lists
    kParts,  // lists only: strings must be wrapped
  };

  // `name` stands in errors. Throws kInput (syntax, unknown filter or tag) or kResource (size, nesting).
  static ChatTemplate parse(std::string source, std::string name);

  // Renders with the members of the object `context` as variables. Throws TemplateException, kInput for errors while
  // running (line named), kResource for exceeded limits.
  Rendered render(const Json& context, const RenderOptions& options = {}) const;

  const std::string& source() const { return source_; }
  const std::string& name() const;
  Content content() const { return content_; }

 private:
  ChatTemplate() = default;
  std::string source_;
  std::shared_ptr<const jinja::Program> program_;
  Content content_ = Content::kText;
};

struct ChatRequest {
  Json messages = Json::array();  // objects with role, content, ...
  Json tools;                     // array or null
  Json documents;                 // array or null
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // end the prompt inside the last message; excludes add_generation_prompt
  std::string bos_token, eos_token;     // empty: the model has none
  std::vector<std::pair<std::string, std::string>> special_tokens;  // other named ones, e.g. {"pad_token", "<pad>"}
  Json kwargs = Json::object();                                     // chat_template_kwargs of the request
};

// Renders a conversation the way chat clients expect: content parts are joined or passed on as the template reads
// them, tool-call arguments given as JSON text become objects, continue_final_message cuts after the last message.
// Null template: ChatML. Throws as ChatTemplate::render, and kInput for a request of the wrong shape.
Rendered render_chat(const ChatTemplate* chat_template, const ChatRequest& request, const RenderOptions& options = {});

// Named templates of one model.
class ChatTemplateSet {
 public:
  // Replaces a template of the same name.
  void add(const std::string& name, ChatTemplate chat_template);
  bool empty() const { return templates_.empty(); }
  const ChatTemplate* find(std::string_view name) const;  // null when absent
  // "tool_use" when there are tools and the set has it, else "default", else the only one; null when there is none.
  const ChatTemplate* choose(bool with_tools) const;

 private:
  std::vector<std::pair<std::string, ChatTemplate>> templates_;
};

// Templates of a model folder: chat_template.jinja wins over tokenizer_config.json:chat_template (a string or a list of
// {name, template}); additional_chat_templates/NAME.jinja are added by name. Empty when the folder has none.
ChatTemplateSet load_chat_templates(const std::string& dir);

}  // namespace fettle::text
