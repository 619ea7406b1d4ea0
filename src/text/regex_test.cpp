#include "text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace fettle::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  std::vector<std::string> found;
  for (const Range& r : Regex(pattern, "test").find_all(text))
    found.emplace_back(text.substr(r.begin, r.end - r.begin));
  return found;
}

TEST(Regex, WhiteSpaceIsThatOfUnicode) {
  EXPECT_THAT(matches(R"(\s)", "a\u0085b\u180Ec\u00A0d"), ElementsAre("\u0085", "\u00A0"));
  EXPECT_THAT(matches(R"(\S+)", "a\u0085\u180E"), ElementsAre("a", "\u180E"));
  EXPECT_THAT(matches(R"([\S]+)", "a\u0085\u180E"), ElementsAre("a", "\u180E"));
  EXPECT_THAT(matches(R"([^\s]+)", "a\u0085\u180E"), ElementsAre("a", "\u180E"));
}

TEST(Regex, CaseFoldingTakesTheLongS) {
  EXPECT_THAT(matches(R"((?i:'s|'ll))", "'S '\u017F 'Ll 's"), ElementsAre("'S", "'\u017F", "'Ll", "'s"));
}

TEST(Regex, OnigurumaEscapes) {
  EXPECT_THAT(matches(R"(\h+)", "xFace 12 \t"), ElementsAre("Face", "12"));
  EXPECT_THAT(matches(R"([\H]+)", "xFace"), ElementsAre("x"));
  EXPECT_THAT(matches(R"(\w+)", "e\u0301 a_b ²x ⁴"), ElementsAre("e\u0301", "a_b", "²x"));
  EXPECT_THAT(matches(R"([^(\s|[.,!?])]+)", "ab.cd [e]"), ElementsAre("ab", "cd", "[e]"));
  EXPECT_THAT(matches(R"(\p{Letter}+|\p{^L})", "ab1"), ElementsAre("ab", "1"));
  EXPECT_THAT(matches(R"(a{2}+)", "aaaaa"), ElementsAre("aaaa"));  // repeats of two, not a possessive quantifier
  EXPECT_THAT(matches(R"((?:ab){1,2}+c)", "ababababc"), ElementsAre("ababababc"));
  EXPECT_THAT(matches(R"(^a)", "a\na"), ElementsAre("a", "a"));
  EXPECT_THAT(matches(R"(\bé)", "é aé"), ElementsAre("é"));
}

TEST(Regex, EmptyMatchesAdvanceByCharacters) {
  EXPECT_EQ(Regex("x*", "test").find_all("é"), (std::vector<Range>{{0, 0}, {2, 2}}));
  EXPECT_EQ(Regex("x*", "test").find_all("xx"), (std::vector<Range>{{0, 2}}));
}

void expect_refused(const std::string& pattern, std::string_view reason) {
  try {
    Regex(pattern, "tokenizer.json: pattern");
    ADD_FAILURE() << pattern;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInput);
    EXPECT_THAT(e.what(), HasSubstr("tokenizer.json: pattern"));
    EXPECT_THAT(e.what(), HasSubstr(std::string(reason)));
  }
}

TEST(Regex, WhatDiffersBetweenTheEnginesIsRefused) {
  expect_refused("a(", "at byte");
  expect_refused("[a", "class without end");
  expect_refused("[a&&b]", "class intersection");
  expect_refused("[a[^b]]", "negated class");
  expect_refused(R"([\W])", "\\W inside a class");
  expect_refused(R"(\K)", "escape");
  expect_refused("(?~a)", "absence");
  expect_refused(R"(\p{Nonsense})", "pattern");
  expect_refused(std::string(9000, 'a'), "exceeds the limit of 8192");
  expect_refused(std::string(200, '(') + std::string(200, ')'), "pattern");
}

TEST(Regex, CatastrophicPatternsStopAtALimit) {
  const Regex regex("^(a|aa)+[bc]$", "tokenizer.json: pattern");
  try {
    regex.find_all(std::string(5000, 'a'));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kResource);
    EXPECT_THAT(e.what(), HasSubstr("limit"));
  }
  EXPECT_THAT(matches("a+", std::string(1 << 20, 'a')), ElementsAre(std::string(1 << 20, 'a')));
}

}  // namespace
}  // namespace fettle::text
