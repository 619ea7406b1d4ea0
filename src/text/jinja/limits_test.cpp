// Limits of the template engine: each at its value and one beyond, and templates built to escape them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/chat_template.h"
#include "text/jinja/parser.h"

namespace fettle::text {
namespace {

using ::testing::HasSubstr;

std::string render(const std::string& source, const RenderOptions& options = {}) {
  return ChatTemplate::parse(source, "t").render(Json::object(), options).text;
}

void expect_limit(const std::string& source, const std::string& message, const RenderOptions& options = {}) {
  try {
    render(source, options);
    ADD_FAILURE() << "accepted: " << source.substr(0, 200);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kResource) << e.what();
    EXPECT_THAT(e.what(), HasSubstr(message)) << source.substr(0, 200);
  }
}

std::string repeat(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(TemplateLimits, SourceSize) {
  EXPECT_EQ(render(std::string(jinja::kMaxSourceBytes, 'x')).size(), jinja::kMaxSourceBytes);
  expect_limit(std::string(jinja::kMaxSourceBytes + 1, 'x'), "the limit is 1048576");
}

TEST(TemplateLimits, Nesting) {
  const auto blocks = [](size_t n) { return repeat("{% if true %}", n) + "x" + repeat("{% endif %}", n); };
  EXPECT_EQ(render(blocks(99)), "x");
  expect_limit(blocks(101), "nests deeper than 100");
  const auto brackets = [](size_t n) { return "{{ " + repeat("[", n) + repeat("]", n) + " }}"; };
  EXPECT_EQ(render(brackets(98)).size(), 2 * 98u);
  expect_limit(brackets(101), "nests deeper than 100");
  expect_limit("{{ " + repeat("not ", 200'000) + "1 }}", "nests deeper than 100");
  expect_limit("{{ " + repeat("-", 200'000) + "1 }}", "nests deeper than 100");
  expect_limit("{{ 1 " + repeat("if 1 else 2 ", 50'000) + "}}", "nests deeper than 100");
}

TEST(TemplateLimits, LongChainsAreFineWhereTheyDoNotNest) {
  EXPECT_EQ(render("{{ 0" + repeat(" + 1", 50'000) + " }}"), "50000");
  EXPECT_EQ(render("{{ ''" + repeat(" ~ 'a'", 50'000) + " }}").size(), 50'000u);
  EXPECT_EQ(render("{% if 0 %}" + repeat("{% elif 0 %}", 20'000) + "{% else %}x{% endif %}"), "x");
  expect_limit("{{ x" + repeat(".a", 101) + " }}", "chain of more than 100");
  expect_limit("{{ x" + repeat("|trim", 101) + " }}", "chain of more than 100");
}

TEST(TemplateLimits, CallDepth) {
  const auto calls = [](int n) {
    return "{% macro f(n) %}{% if n > 1 %}{{ f(n - 1) }}{% else %}end{% endif %}{% endmacro %}{{ f(" +
           std::to_string(n) + ") }}";
  };
  EXPECT_EQ(render(calls(64)), "end");
  expect_limit(calls(65), "deeper than 64");
  expect_limit(calls(1'000'000), "deeper than 64");
  // A macro that nests to the limit inside itself calls itself: the stack is bounded over all calls.
  const std::string deep = repeat("{% if true %}", 60) + "{{ " + repeat("(1, ", 30) + "f()" + repeat(")", 30) + " }}" +
                           repeat("{% endif %}", 60);
  expect_limit("{% macro f() %}" + deep + "{% endmacro %}{{ f() }}", "deeper than");
}

TEST(TemplateLimits, Range) {
  EXPECT_EQ(render("{{ range(100000)|length }}"), "100000");
  expect_limit("{{ range(100001)|length }}", "the limit is 100000");
  expect_limit("{{ range(-9223372036854775807, 9223372036854775807)|length }}", "the limit is 100000");
}

TEST(TemplateLimits, Steps) {
  expect_limit("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps");
  expect_limit("{% set t = 'a' * 4000000 %}{% for i in range(100000) %}{% set u = t|upper %}{% endfor %}", "steps");
  expect_limit("{% set l = range(100000)|list %}{% for i in range(100000) %}{% set u = l[:] %}{% endfor %}", "");
  RenderOptions few;
  few.engine.limits.steps = 100;
  EXPECT_EQ(render("{% for i in range(10) %}{{ i }}{% endfor %}", few), "0123456789");
  expect_limit("{% for i in range(100) %}{{ i }}{% endfor %}", "more than 100 steps", few);
}

// Substring search is linear: this would take minutes with a search that starts over at each character.
TEST(TemplateLimits, SearchIsLinear) {
  EXPECT_EQ(render("{% set a = 'a' * 2000000 %}{% set b = a[:1000000] ~ 'b' %}"
                   "{{ a.find(b) }}{{ a.rfind(b) }}{{ b in a }}{{ a.count(b) }}{{ a.split(b)|length }}"),
            "-1-1False01");
}

TEST(TemplateLimits, Output) {
  EXPECT_EQ(render("{{ 'x' * 8388608 }}").size(), size_t{8} << 20);
  expect_limit("{{ 'x' * 8388608 }}y", "the limit is 8388608");
  expect_limit("{{ 'x' * 8388609 }}", "the limit is 8388608");
  expect_limit("{{ 'x' * 99999999999999999999 }}", "the limit is 8388608");
  expect_limit("{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
               "the limit is 8388608");
  expect_limit("{{ '%99999999d' % 1 }}", "the limit is 8388608");
  expect_limit("{{ '{:>16000000}'.format(1) }}", "the limit is 8388608");
}

TEST(TemplateLimits, Memory) {
  expect_limit("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
               "bytes of memory");
  expect_limit("{{ [1] * 99999999999999 }}", "bytes of memory");
  expect_limit("{% set l = [] %}{% for i in range(1000) %}{% set _ = l.append('x' * (1000000 + i)) %}{% endfor %}",
               "bytes of memory");
  // Strings that nothing refers to give their memory back.
  EXPECT_EQ(render("{% for i in range(400) %}{% set s = 'x' * 1000000 %}{% endfor %}done"), "done");
}

TEST(TemplateLimits, DeepValuesAreRefusedNotOverflowing) {
  const std::string deep =
      "{% set ns = namespace(l=[]) %}{% for i in range(9000) %}{% set ns.l = [ns.l] %}{% endfor %}";
  for (const char* use : {"{{ ns.l }}", "{{ ns.l|tojson }}", "{{ ns.l == [ns.l] }}", "{{ [ns.l] < [ns.l, 1] }}"}) {
    try {
      render(deep + use);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("nest")) << use;
    }
  }
  // A cycle is a list like any other until it is printed.
  EXPECT_EQ(render("{% set l = [1] %}{% set _ = l.append(l) %}{{ l|length }}"), "2");
  EXPECT_THROW(render("{% set l = [1] %}{% set _ = l.append(l) %}{{ l }}"), Error);
  // Shared parts double at each level; as a dictionary key that would never end.
  EXPECT_THROW(render("{% set ns = namespace(t=()) %}{% for i in range(90) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}"
                      "{{ {ns.t: 1} }}"),
               Error);
}

TEST(TemplateLimits, IntegersDoNotWrap) {
  EXPECT_EQ(render("{{ 2**100 }}"), "1267650600228229401496703205376");
  EXPECT_EQ(render("{{ -170141183460469231731687303715884105727 - 1 }}"), "-170141183460469231731687303715884105728");
  for (const char* source : {"{{ 2**127 }}", "{{ 2**126 * 2 }}", "{{ 10**38 + 10**38 }}", "{{ 3**999999999 }}",
                             "{{ -(-170141183460469231731687303715884105727 - 1) }}", "{{ 1e300|int }}"})
    EXPECT_THROW(render(source), Error) << source;
  EXPECT_EQ(render("{{ (-2**127 + 1 - 1) // 1 if false else 'ok' }}"), "ok");
}

}  // namespace
}  // namespace fettle::text
