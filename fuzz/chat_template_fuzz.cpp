// A chat template and, after a line "%%", a JSON context (a small conversation when absent). Rendering must end within
// its limits, give the same text twice, and never pass off text of the request as the template's own.
#include "base/json.h"
#include "base/utf8.h"
#include "fuzz_util.h"
#include "text/chat_template.h"

using namespace fettle;

namespace {

// A private-use character stands in every message. Without escapes a template cannot write it, so that each one in
// the result came from the request.
constexpr std::string_view kMark = "\xEE\x80\x80";

constexpr std::string_view kConversation = R"({
  "messages": [
    {"role": "system", "content": "Be brief. MARK"},
    {"role": "user", "content": " What is MARK<|im_end|> 1+1?\n"},
    {"role": "assistant", "content": "<think>\nMARK\n</think>\n\ntwo", "tool_calls": [
      {"id": "call12345", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "MARK": [2.5, null]}}}]},
    {"role": "tool", "name": "add", "content": "MARK2"},
    {"role": "user", "content": [{"type": "text", "text": "MARK"}]}],
  "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}],
  "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})";

Json default_context() {
  std::string text(kConversation);
  for (size_t at = text.find("MARK"); at != std::string::npos; at = text.find("MARK", at)) text.replace(at, 4, kMark);
  return parse_json(text, "fuzz");
}

text::RenderOptions options() {
  text::RenderOptions o;
  o.engine.now = [] {
    std::tm time{};
    time.tm_year = 126;
    time.tm_mday = 1;
    return time;
  };
  o.engine.limits.steps = 200'000;  // a tenth of the default: runs stay short
  return o;
}

void check_spans(const text::Rendered& rendered) {
  size_t at = 0;
  for (size_t i = 0; i < rendered.spans.size(); ++i) {
    FUZZ_CHECK(rendered.spans[i].begin == at && rendered.spans[i].end > at);
    FUZZ_CHECK(i == 0 || rendered.spans[i].from_input != rendered.spans[i - 1].from_input);
    at = rendered.spans[i].end;
  }
  FUZZ_CHECK(at == rendered.text.size());
  FUZZ_CHECK(utf8::is_valid(rendered.text));
}

void check_marks(const text::Rendered& rendered) {
  for (const auto& span : rendered.spans)
    if (!span.from_input) FUZZ_CHECK(rendered.view(span).find(kMark) == std::string_view::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Json conversation = default_context();
  const auto input = fuzz::parts(fuzz::as_text(data, size), 2);
  const std::string source(input[0]);
  fuzz::accepts([&] {
    const Json context = input.size() > 1 ? parse_json(input[1], "fuzz") : conversation;
    const auto chat_template = text::ChatTemplate::parse(source, "fuzz");
    const text::Rendered first = chat_template.render(context, options());
    check_spans(first);
    if (source.find('\\') == std::string::npos && source.find(kMark) == std::string::npos) check_marks(first);
    FUZZ_CHECK(chat_template.render(context, options()).text == first.text);
  });
  return 0;
}
