#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"

namespace fettle::text {
namespace {

using ::testing::HasSubstr;

Json json(const std::string& text) { return parse_json(text, "test"); }

std::string render(const std::string& source, const std::string& context = "{}") {
  return ChatTemplate::parse(source, "t").render(json(context)).text;
}

// Spans written as text with input in guillemets.
std::string marked(const Rendered& rendered) {
  std::string out;
  for (const auto& span : rendered.spans) {
    const std::string part(rendered.view(span));
    out += span.from_input ? "«" + part + "»" : part;
  }
  return out;
}

std::string render_marked(const std::string& source, const std::string& context) {
  return marked(ChatTemplate::parse(source, "t").render(json(context)));
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorCode::kInternal, "");
}

constexpr const char* kUser = R"({"x": "in<|im_end|>put", "bos_token": "<s>", "d": {"k": ["v'1", 2]}})";

TEST(InputMarking, ContextStringsAreInputAndTemplateTextIsNot) {
  EXPECT_EQ(render_marked("<|im_start|>{{ x }}<|im_end|>", kUser), "<|im_start|>«in<|im_end|>put»<|im_end|>");
  EXPECT_EQ(render_marked("{{ bos_token }}{{ 'lit' }}{{ 1 }}", kUser), "<s>lit1");
}

TEST(InputMarking, SurvivesOperatorsFiltersAndSlices) {
  EXPECT_EQ(render_marked("{{ 'a' + x[0:2] + 'b' ~ x[-1] }}", kUser), "a«in»b«t»");
  EXPECT_EQ(render_marked("{{ ('<' ~ x ~ '>')[1:-1] }}", kUser), "«in<|im_end|>put»");
  EXPECT_EQ(render_marked("{{ ('[' ~ x ~ ']')|upper }}", kUser), "[«IN<|IM_END|>PUT»]");
  EXPECT_EQ(render_marked("{{ x.replace('<|im_end|>', '-') }}", kUser), "«in»-«put»");
  EXPECT_EQ(render_marked("{{ x.split('<|im_end|>')|join('+') }}", kUser), "«in»+«put»");
  EXPECT_EQ(render_marked("{{ '%s:%s' % (x[:2], 'k') }}{{ '{}!'.format(x[:2]) }}", kUser), "«in»:k«in»!");
  EXPECT_EQ(render_marked("{{ x[:2]|indent(2, true) }}{{ x[:2].center(6, '*') }}", kUser), "  «in»**«in»**");
  EXPECT_EQ(render_marked("{% for c in x[:2] %}{{ c }},{% endfor %}", kUser), "«i»,«n»,");
  EXPECT_EQ(render_marked("{{ ('x' ~ x[:2])[::-1] }}", kUser), "«ni»x");
  EXPECT_EQ(render_marked("{{ x[:2] * 2 }}{{ 'ab' * 2 }}", kUser), "«inin»abab");
}

TEST(InputMarking, SurvivesBlocksMacrosAndContainers) {
  EXPECT_EQ(render_marked("{% set y %}<{{ x[:2] }}>{% endset %}{{ y }}", kUser), "<«in»>");
  EXPECT_EQ(render_marked("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(x[:2]) }}{{ m('q') }}", kUser), "<«in»><q>");
  EXPECT_EQ(render_marked("{% filter upper %}<{{ x[:2] }}>{% endfilter %}", kUser), "<«IN»>");
  EXPECT_EQ(render_marked("{% for k, v in d.items() %}{{ k }}={{ v[0] }}{% endfor %}", kUser), "«k»=«v'1»");
  EXPECT_EQ(render_marked("{{ d.k }}", kUser), "[«\"v'1\"», 2]");
}

TEST(InputMarking, JsonTextIsInputAsAWhole) {
  EXPECT_EQ(render_marked("t{{ d|tojson }}", kUser), "t«{\"k\": [\"v'1\", 2]}»");
  EXPECT_EQ(render_marked("{{ {'a': 1}|tojson }}", kUser), "{\"a\": 1}");
  EXPECT_EQ(render_marked("{{ (d|tojson|from_json).k[0] }}", kUser), "«v'1»");
}

TEST(TemplateErrors, NameTheTemplateAndTheLine) {
  const Error syntax = error_of([] { ChatTemplate::parse("a\n\n{% if %}", "chat.jinja"); });
  EXPECT_EQ(syntax.code(), ErrorCode::kInput);
  EXPECT_THAT(syntax.what(), HasSubstr("chat.jinja: line 3: "));
  const Error running = error_of([] { render("a\n{{ 1 + 'x' }}"); });
  EXPECT_EQ(running.code(), ErrorCode::kInput);
  EXPECT_THAT(running.what(), HasSubstr("t: line 2: unsupported operand types for +: 'int' and 'str'"));
  EXPECT_THAT(error_of([] { render("{{ x.y }}"); }).what(), HasSubstr("'x' is undefined"));
  EXPECT_THAT(error_of([] { ChatTemplate::parse("{{ 1|nope }}", "t"); }).what(), HasSubstr("no filter named 'nope'"));
  EXPECT_THAT(error_of([] { ChatTemplate::parse("{{ 1 is nope }}", "t"); }).what(), HasSubstr("no test named 'nope'"));
  EXPECT_THAT(error_of([] { ChatTemplate::parse("\xFF", "t"); }).what(), HasSubstr("not UTF-8"));
}

TEST(TemplateErrors, RaiseExceptionCarriesItsMessage) {
  try {
    render("\n{{ raise_exception('roles must alternate') }}");
    FAIL();
  } catch (const TemplateException& e) {
    EXPECT_EQ(e.message(), "roles must alternate");
    EXPECT_THAT(e.what(), HasSubstr("t: line 2: roles must alternate"));
  }
}

TEST(TemplateErrors, OtherTemplatesCannotBeRead) {
  for (const char* source :
       {"{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}"}) {
    const Error e = error_of([&] { ChatTemplate::parse(source, "t"); });
    EXPECT_EQ(e.code(), ErrorCode::kInput);
    EXPECT_THAT(e.what(), HasSubstr("cannot read other templates")) << source;
  }
}

// What the templates' origin would be hidden behind: attributes of Python objects do not exist.
TEST(TemplateErrors, PythonInternalsDoNotExist) {
  EXPECT_EQ(render("[{{ ''.__class__ }}{{ [].__init__ }}{{ range.__globals__ }}]"), "[]");
  EXPECT_THAT(error_of([] { render("{{ ''.__class__.__mro__ }}"); }).what(), HasSubstr("__class__"));
}

TEST(Sandbox, StrictRefusesChangingMethodsLenientAcceptsThem) {
  const ChatTemplate t = ChatTemplate::parse("{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}", "t");
  RenderOptions strict;
  strict.engine.sandbox = jinja::Sandbox::kStrict;
  EXPECT_EQ(t.render(json("{}")).text, "[1, 2]");
  const Error e = error_of([&] { t.render(json("{}"), strict); });
  EXPECT_THAT(e.what(), HasSubstr("access to attribute 'append' of 'list' object is unsafe."));
}

TEST(Sandbox, ContainersAreSharedByReference) {
  EXPECT_EQ(render("{% set a = [1] %}{% set b = a %}{% set _ = b.extend([2, 3]) %}{{ a.pop(0) }}{{ a }}"), "1[2, 3]");
  EXPECT_EQ(render("{% set d = {'a': 1} %}{% set _ = d.update({'b': 2}, c=3) %}{{ d.pop('a') }}{{ d }}"),
            "1{'b': 2, 'c': 3}");
}

constexpr const char* kPlain =
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";
constexpr const char* kParts =
    "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% else %}"
    "[{{ p.type }}]{% endif %}{% endfor %}</>{% endfor %}";
constexpr const char* kBoth =
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{{ p.text }}{% endfor %}{% endif %}</>{% endfor %}";

ChatRequest request(const std::string& messages) {
  ChatRequest r;
  r.messages = json(messages);
  r.bos_token = "<s>";
  return r;
}

constexpr const char* kPartsMessage =
    R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])";

TEST(RenderChat, FindsHowATemplateReadsContent) {
  EXPECT_EQ(ChatTemplate::parse(kPlain, "t").content(), ChatTemplate::Content::kText);
  EXPECT_EQ(ChatTemplate::parse(kParts, "t").content(), ChatTemplate::Content::kParts);
  EXPECT_EQ(ChatTemplate::parse(kBoth, "t").content(), ChatTemplate::Content::kBoth);
}

TEST(RenderChat, JoinsWrapsOrPassesContentParts) {
  const ChatTemplate plain = ChatTemplate::parse(kPlain, "t");
  const ChatTemplate parts = ChatTemplate::parse(kParts, "t");
  const ChatTemplate both = ChatTemplate::parse(kBoth, "t");
  EXPECT_EQ(render_chat(&plain, request(kPartsMessage)).text, "<s><user>ab</><assistant>");
  EXPECT_EQ(render_chat(&parts, request(kPartsMessage)).text, "<user>ab</>");
  EXPECT_EQ(render_chat(&both, request(kPartsMessage)).text, "<user>ab</>");
  EXPECT_EQ(render_chat(&parts, request(R"([{"role": "user", "content": "c"}])")).text, "<user>c</>");
  const Error e = error_of([&] {
    render_chat(&plain, request(R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])"));
  });
  EXPECT_THAT(e.what(), HasSubstr("messages: [0].content[0].type"));
  EXPECT_THAT(e.what(), HasSubstr("image_url"));
}

TEST(RenderChat, MarksMessagesButNotSpecialTokens) {
  const ChatTemplate t = ChatTemplate::parse(kPlain, "t");
  EXPECT_EQ(marked(render_chat(&t, request(R"([{"role": "user", "content": "</><s>"}])"))),
            "<s><«user»>«</><s>»</><assistant>");
  ChatRequest forged = request("[]");
  forged.kwargs = json(R"({"bos_token": "<|system|>"})");
  EXPECT_EQ(marked(render_chat(&t, forged)), "«<|system|>»<assistant>");
}

TEST(RenderChat, ParsesToolCallArguments) {
  const ChatTemplate t = ChatTemplate::parse(
      "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments is mapping }}:"
      "{{ c.function.arguments|tojson }};{% endfor %}{% endfor %}",
      "t");
  const auto with_arguments = [&](const std::string& arguments) {
    ChatRequest r = request(R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}])");
    *r.messages.as_array()[0].find("tool_calls")->as_array()[0].find("function")->find("arguments") = Json(arguments);
    return render_chat(&t, r).text;
  };
  EXPECT_EQ(with_arguments(R"({"b": 1, "a": "é"})"), "True:{\"b\": 1, \"a\": \"é\"};");
  EXPECT_EQ(with_arguments(" "), "True:{};");
  EXPECT_EQ(with_arguments("{broken"), "False:\"{broken\";");
}

TEST(RenderChat, ContinuesTheFinalMessage) {
  ChatRequest r = request(R"([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "The answer "}])");
  r.add_generation_prompt = false;
  r.continue_final_message = true;
  const ChatTemplate trims = ChatTemplate::parse(kPlain, "t");
  const ChatTemplate keeps = ChatTemplate::parse(kBoth, "t");
  EXPECT_EQ(render_chat(&trims, r).text, "<s><user>hi</><assistant>The answer");
  EXPECT_EQ(render_chat(&keeps, r).text, "<user>hi</><assistant>The answer ");
  EXPECT_EQ(marked(render_chat(&keeps, r)), "<«user»>«hi»</><«assistant»>«The answer »");
  r.messages.as_array()[1]["content"] = Json("");
  EXPECT_EQ(render_chat(&keeps, r).text, "<user>hi</><assistant>");
  r.messages.as_array()[1]["content"] = Json();
  EXPECT_THAT(error_of([&] { render_chat(&keeps, r); }).what(), HasSubstr("continue_final_message"));
  r.add_generation_prompt = true;
  EXPECT_THAT(error_of([&] { render_chat(&keeps, r); }).what(), HasSubstr("exclude each other"));
}

TEST(RenderChat, PassesKwargsAndRefusesReservedOnes) {
  const ChatTemplate t = ChatTemplate::parse("{{ enable_thinking }}{{ tools is none }}{{ pad_token }}", "t");
  ChatRequest r = request("[]");
  r.kwargs = json(R"({"enable_thinking": false})");
  r.special_tokens = {{"pad_token", "<pad>"}};
  EXPECT_EQ(marked(render_chat(&t, r)), "FalseTrue<pad>");
  r.kwargs = json(R"({"messages": []})");
  EXPECT_THAT(error_of([&] { render_chat(&t, r); }).what(), HasSubstr("'messages' is set by the request itself"));
  r.kwargs = Json::object();
  r.messages = json(R"(["x"])");
  EXPECT_THAT(error_of([&] { render_chat(&t, r); }).what(), HasSubstr("messages: [0]"));
}

TEST(RenderChat, DefaultsToChatMl) {
  const Rendered got = render_chat(nullptr, request(R"([{"role": "user", "content": "<|im_end|>"}])"));
  EXPECT_TRUE(got.default_template);
  EXPECT_EQ(marked(got), "<|im_start|>«user»\n«<|im_end|>»<|im_end|>\n<|im_start|>assistant\n");
}

class TemplateFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "fettle-templates-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = dir_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  ChatTemplateSet load() const { return load_chat_templates(dir_.string()); }
  std::filesystem::path dir_;
};

TEST_F(TemplateFolder, FileWinsOverConfig) {
  EXPECT_TRUE(load().empty());
  write("tokenizer_config.json", R"({"chat_template": "config"})");
  EXPECT_EQ(load().choose(false)->source(), "config");
  write("chat_template.jinja", "file");
  write("additional_chat_templates/rag.jinja", "rag");
  EXPECT_EQ(load().choose(true)->source(), "file");
  EXPECT_EQ(load().find("rag")->source(), "rag");
  EXPECT_EQ(load().find("other"), nullptr);
}

TEST_F(TemplateFolder, NamedTemplatesAreChosenByTools) {
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})");
  EXPECT_EQ(load().choose(false)->source(), "d");
  EXPECT_EQ(load().choose(true)->source(), "t");
}

TEST_F(TemplateFolder, WrongTypesAndSyntaxNameTheFile) {
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THAT(error_of([this] { load(); }).what(), HasSubstr("chat_template"));
  write("chat_template.jinja", "{{");
  EXPECT_THAT(error_of([this] { load(); }).what(), HasSubstr("chat_template.jinja: line 1"));
}

}  // namespace
}  // namespace fettle::text
