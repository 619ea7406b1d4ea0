#include "text/chat_template.h"

#include <algorithm>

#include "base/file.h"
#include "text/jinja/characters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace fettle::text {
namespace {

constexpr std::string_view kChatMl =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

constexpr std::string_view kProbe = "fettle-content-probe";
// A probe is a two-line conversation; more work means the template does something else with it.
constexpr uint64_t kProbeSteps = 100'000;

enum class ProbeResult { kMissing, kShown, kQuoted };

// Renders one user message and looks for its text: shown as it is, missing, or inside a quoted list.
ProbeResult probe(const ChatTemplate& chat_template, const Json& content) {
  Json message = Json::object();
  message["role"] = Json("user");
  message["content"] = content;
  Json context = Json::object();
  context["messages"] = Json(Json::Array{message});
  context["add_generation_prompt"] = Json(true);
  context["tools"] = Json();
  context["bos_token"] = Json("");
  context["eos_token"] = Json("");
  RenderOptions options;
  options.engine.limits.steps = kProbeSteps;
  try {
    const std::string text = chat_template.render(context, options).text;
    if (text.find(kProbe) == std::string::npos) return ProbeResult::kMissing;
    return text.find("'type'") == std::string::npos && text.find("\"type\"") == std::string::npos
               ? ProbeResult::kShown
               : ProbeResult::kQuoted;
  } catch (const Error&) {
    return ProbeResult::kMissing;
  }
}

Json text_part(std::string text) {
  Json part = Json::object();
  part["type"] = Json("text");
  part["text"] = Json(std::move(text));
  return part;
}

ChatTemplate::Content find_content_form(const ChatTemplate& chat_template) {
  const ProbeResult parts = probe(chat_template, Json(Json::Array{text_part(std::string(kProbe))}));
  if (parts != ProbeResult::kShown) return ChatTemplate::Content::kText;
  return probe(chat_template, Json(kProbe)) == ProbeResult::kShown ? ChatTemplate::Content::kBoth
                                                                   : ChatTemplate::Content::kParts;
}

Rendered to_rendered(const jinja::MarkedText& text) {
  Rendered out;
  out.text = text.bytes();
  size_t at = 0;
  text.for_each_run([&](std::string_view run, bool input) {
    out.spans.push_back({at, at + run.size(), input});
    at += run.size();
  });
  return out;
}

void cut(Rendered& rendered, size_t end) {
  rendered.text.resize(end);
  while (!rendered.spans.empty() && rendered.spans.back().begin >= end) rendered.spans.pop_back();
  if (!rendered.spans.empty()) rendered.spans.back().end = std::min(rendered.spans.back().end, end);
}

}  // namespace

RenderOptions::RenderOptions() = default;

ChatTemplate ChatTemplate::parse(std::string source, std::string name) {
  ChatTemplate out;
  out.program_ = jinja::parse_template(source, name);
  out.source_ = std::move(source);
  out.content_ = find_content_form(out);
  return out;
}

const std::string& ChatTemplate::name() const { return program_->name; }

Rendered ChatTemplate::render(const Json& context, const RenderOptions& options) const {
  const auto is_trusted = [&options](std::string_view variable) {
    return std::find(options.trusted.begin(), options.trusted.end(), variable) != options.trusted.end();
  };
  jinja::Interpreter interpreter(*program_, context, is_trusted, options.engine);
  return to_rendered(interpreter.run());
}

namespace {

// The text of a content list; parts that are not text cannot be joined.
std::string join_parts(const JsonReader& content) {
  std::string out;
  for (size_t i = 0; i < content.array().size(); ++i) {
    const JsonReader part = content.at(i);
    if (part.value().is_string()) {
      out += part.string();
      continue;
    }
    const std::string& type = part.at("type").string();
    if (type != "text") part.at("type").fail_expected("\"text\" (this model's chat template reads no other parts)");
    out += part.at("text").string();
  }
  return out;
}

void prepare_content(Json& message, ChatTemplate::Content form, const JsonReader& where) {
  Json* content = message.find("content");
  if (!content) return;
  if (content->is_array() && form == ChatTemplate::Content::kText) {
    *content = Json(join_parts(where.at("content")));
  } else if (content->is_string() && form == ChatTemplate::Content::kParts) {
    *content = Json(Json::Array{text_part(content->as_string())});
  }
}

// OpenAI clients send a call's arguments as JSON text; templates expect the object. Text that is no JSON object (a
// model may have written it) stays as it is.
void prepare_tool_calls(Json& message) {
  Json* calls = message.find("tool_calls");
  if (!calls || !calls->is_array()) return;
  for (Json& call : calls->as_array()) {
    Json* function = call.find("function");
    Json* arguments = (function ? *function : call).find("arguments");
    if (!arguments || !arguments->is_string()) continue;
    const std::string text = arguments->as_string();
    if (jinja::skip_space(text, 0) == text.size()) {
      *arguments = Json::object();
      continue;
    }
    try {
      Json parsed = parse_json(text, "arguments");
      if (parsed.is_object()) *arguments = std::move(parsed);
    } catch (const Error&) {
      continue;
    }
  }
}

Json prepare_messages(const Json& messages, ChatTemplate::Content form) {
  Json out = messages;
  const JsonReader reader(messages, "messages");
  for (size_t i = 0; i < reader.array().size(); ++i) {
    Json& message = out.as_array()[i];
    if (!message.is_object()) reader.at(i).fail_expected("object");
    prepare_content(message, form, reader.at(i));
    prepare_tool_calls(message);
  }
  return out;
}

bool is_reserved(std::string_view name) {
  return name == "messages" || name == "tools" || name == "documents" || name == "add_generation_prompt" ||
         name == "continue_final_message";
}

Json make_context(const ChatRequest& request, Json messages) {
  Json context = Json::object();
  context["messages"] = std::move(messages);
  context["tools"] = request.tools;
  context["documents"] = request.documents;
  context["add_generation_prompt"] = Json(request.add_generation_prompt);
  context["continue_final_message"] = Json(request.continue_final_message);
  for (const auto& [name, text] : request.special_tokens) context[name] = Json(text);
  if (!request.bos_token.empty()) context["bos_token"] = Json(request.bos_token);
  if (!request.eos_token.empty()) context["eos_token"] = Json(request.eos_token);
  if (request.kwargs.is_null()) return context;
  for (const auto& [name, value] : JsonReader(request.kwargs, "chat_template_kwargs").object()) {
    if (is_reserved(name)) fail(ErrorCode::kInput, "chat_template_kwargs: '{}' is set by the request itself", name);
    context[name] = value;
  }
  return context;
}

// Where the last message's own text ends: content itself, or its last text part.
std::string* final_text(Json& messages) {
  if (messages.as_array().empty()) return nullptr;
  Json* content = messages.as_array().back().find("content");
  if (!content) return nullptr;
  if (content->is_string()) return const_cast<std::string*>(&content->as_string());
  if (!content->is_array()) return nullptr;
  for (auto part = content->as_array().rbegin(); part != content->as_array().rend(); ++part)
    if (Json* text = part->find("text"); text && text->is_string()) return const_cast<std::string*>(&text->as_string());
  return nullptr;
}

// A word that the conversation does not contain, with a blank behind it that shows whether the template trims.
std::string make_end_mark(const Json& messages) {
  const std::string all = messages.dump();
  std::string mark = "fettle-final-message-ends-here";
  while (all.find(mark) != std::string::npos) mark += '-';
  return mark + ' ';
}

void cut_at_mark(Rendered& rendered, const std::string& mark, const std::string& name) {
  const std::string_view word = std::string_view(mark).substr(0, mark.size() - 1);
  const size_t at = rendered.text.rfind(word);
  if (at == std::string::npos)
    fail(ErrorCode::kInput, "{}: continue_final_message: the template does not show the final message", name);
  const bool trims = std::string_view(rendered.text).substr(at, mark.size()) != mark;
  cut(rendered, trims ? jinja::trimmed_end(std::string_view(rendered.text).substr(0, at)) : at);
}

const ChatTemplate& chat_ml() {
  static const ChatTemplate kTemplate = ChatTemplate::parse(std::string(kChatMl), "built-in ChatML template");
  return kTemplate;
}

}  // namespace

Rendered render_chat(const ChatTemplate* chat_template, const ChatRequest& request, const RenderOptions& options) {
  const ChatTemplate& chosen = chat_template ? *chat_template : chat_ml();
  if (request.continue_final_message && request.add_generation_prompt)
    fail(ErrorCode::kInput, "continue_final_message and add_generation_prompt exclude each other");
  Json messages = prepare_messages(request.messages, chosen.content());
  std::string mark;
  if (request.continue_final_message) {
    std::string* text = final_text(messages);
    if (!text) fail(ErrorCode::kInput, "messages: continue_final_message needs a final message with text content");
    mark = make_end_mark(messages);
    *text += mark;
  }
  RenderOptions with_tokens = options;
  for (const auto& token : request.special_tokens) with_tokens.trusted.push_back(token.first);
  if (request.kwargs.is_object())  // a request must not smuggle trusted text in under a token's name
    for (const auto& member : request.kwargs.as_object()) std::erase(with_tokens.trusted, member.first);
  Rendered rendered = chosen.render(make_context(request, std::move(messages)), with_tokens);
  if (!mark.empty()) cut_at_mark(rendered, mark, chosen.name());
  rendered.default_template = chat_template == nullptr;
  return rendered;
}

void ChatTemplateSet::add(const std::string& name, ChatTemplate chat_template) {
  for (auto& [known, existing] : templates_) {
    if (known != name) continue;
    existing = std::move(chat_template);
    return;
  }
  templates_.emplace_back(name, std::move(chat_template));
}

const ChatTemplate* ChatTemplateSet::find(std::string_view name) const {
  for (const auto& [known, chat_template] : templates_)
    if (known == name) return &chat_template;
  return nullptr;
}

const ChatTemplate* ChatTemplateSet::choose(bool with_tools) const {
  if (with_tools)
    if (const ChatTemplate* found = find("tool_use")) return found;
  if (const ChatTemplate* found = find("default")) return found;
  return templates_.size() == 1 ? &templates_.front().second : nullptr;
}

namespace {

constexpr std::string_view kJinjaSuffix = ".jinja";

void add_from_config(ChatTemplateSet& set, const std::string& path) {
  const Json config = parse_json_file(path);
  const JsonReader reader(config, path);
  if (!reader.has("chat_template")) return;
  const JsonReader field = reader.at("chat_template");
  if (field.value().is_string()) {
    set.add("default", ChatTemplate::parse(field.string(), path + ": chat_template"));
    return;
  }
  if (!field.value().is_array()) field.fail_expected("string or list of {name, template}");
  for (size_t i = 0; i < field.array().size(); ++i) {
    const std::string& name = field.at(i).at("name").string();
    set.add(name,
            ChatTemplate::parse(field.at(i).at("template").string(), fmt::format("{}: chat_template[{}]", path, i)));
  }
}

}  // namespace

ChatTemplateSet load_chat_templates(const std::string& dir) {
  ChatTemplateSet set;
  const std::string main_file = path_join(dir, "chat_template.jinja");
  const std::string config_file = path_join(dir, "tokenizer_config.json");
  if (file_exists(main_file))
    set.add("default", ChatTemplate::parse(read_file(main_file, jinja::kMaxSourceBytes), main_file));
  else if (file_exists(config_file))
    add_from_config(set, config_file);
  const std::string more = path_join(dir, "additional_chat_templates");
  if (!is_directory(more)) return set;
  for (const std::string& file : list_directory(more)) {
    if (!file.ends_with(kJinjaSuffix) || file.size() == kJinjaSuffix.size()) continue;
    const std::string path = path_join(more, file);
    set.add(file.substr(0, file.size() - kJinjaSuffix.size()),
            ChatTemplate::parse(read_file(path, jinja::kMaxSourceBytes), path));
  }
  return set;
}

}  // namespace fettle::text
