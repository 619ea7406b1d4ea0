// Golden vectors of an independent Jinja implementation: see the README beside them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/chat_template.h"

namespace fettle::text {
namespace {

constexpr const char* kSynthetic = "jinja_synthetic.json";
constexpr const char* kReal = "chat_templates_real.json";

// The vector folders to look in: ours, and $FETTLE_VECTORS_DIR when set.
std::vector<std::string> find_vectors(const std::string& file) {
  std::vector<std::string> found;
  std::vector<std::string> dirs = {std::string(FETTLE_TEST_DATA) + "/vectors/ecosystem"};
  if (const char* extra = std::getenv("FETTLE_VECTORS_DIR")) dirs.push_back(std::string(extra) + "/ecosystem");
  for (const std::string& dir : dirs)
    if (file_exists(dir + "/" + file)) found.push_back(dir + "/" + file);
  return found;
}

// "2025-07-26T14:05:09"
std::tm parse_now(const std::string& text) {
  std::tm now{};
  EXPECT_NE(strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &now), nullptr) << text;
  return now;
}

RenderOptions reference_options(const std::string& now) {
  RenderOptions options;
  options.engine.sandbox = jinja::Sandbox::kStrict;
  options.engine.now = [time = parse_now(now)] { return time; };
  return options;
}

// Renders and compares with `expected`, or with the fact of an error and, for raise_exception, its message.
void check_case(const std::string& source, const Json& context, const Json& wanted, const RenderOptions& options) {
  static const std::string kRaised = "TemplateError: ";
  std::string got;
  std::optional<std::string> error;
  std::optional<std::string> raised;
  try {
    got = ChatTemplate::parse(source, "template").render(context, options).text;
  } catch (const TemplateException& e) {
    error = e.what();
    raised = e.message();
  } catch (const Error& e) {
    error = e.what();
  }
  if (const Json* expected = wanted.find("expected")) {
    EXPECT_FALSE(error.has_value()) << *error;
    EXPECT_EQ(got, expected->as_string());
    return;
  }
  const std::string& wanted_error = wanted.find("error")->as_string();
  EXPECT_TRUE(error.has_value()) << "rendered " << got << " instead of failing with " << wanted_error;
  if (wanted_error.starts_with(kRaised)) {
    EXPECT_EQ(raised.value_or("(another error)"), wanted_error.substr(kRaised.size()));
  }
}

TEST(ChatTemplateGolden, Synthetic) {
  const auto files = find_vectors(kSynthetic);
  ASSERT_FALSE(files.empty()) << kSynthetic;
  for (const std::string& path : files) {
    const Json vectors = parse_json_file(path);
    const RenderOptions options = reference_options(vectors.find("now")->as_string());
    for (const Json& item : vectors.find("cases")->as_array()) {
      SCOPED_TRACE(path + ": " + item.find("name")->as_string());
      check_case(item.find("template")->as_string(), *item.find("context"), item, options);
    }
  }
}

// Our own templates with the answers of the reference implementation: tests/data/jinja/README.md.
TEST(ChatTemplateGolden, ReferenceAnswers) {
  for (const char* file : {"language.json", "whitespace.json"}) {
    const std::string path = std::string(FETTLE_TEST_DATA) + "/jinja/" + file;
    const Json vectors = parse_json_file(path);
    const RenderOptions options = reference_options(vectors.find("now")->as_string());
    ASSERT_GE(vectors.find("cases")->size(), 100u) << path;
    for (const Json& item : vectors.find("cases")->as_array()) {
      const std::string& source = item.find("template")->as_string();
      SCOPED_TRACE(source);
      check_case(source, *vectors.find("context"), item, options);
    }
  }
}

TEST(ChatTemplateGolden, PublishedTemplates) {
  if (!std::getenv("FETTLE_VECTORS_DIR"))
    GTEST_SKIP() << "published templates are used in place: set FETTLE_VECTORS_DIR";
  const auto files = find_vectors(kReal);
  ASSERT_FALSE(files.empty()) << kReal;
  for (const std::string& path : files) {
    const Json vectors = parse_json_file(path);
    const RenderOptions options = reference_options(vectors.find("now")->as_string());
    for (const Json& item : vectors.find("results")->as_array()) {
      const std::string& name = item.find("template")->as_string();
      const std::string& conversation = item.find("case")->as_string();
      SCOPED_TRACE(name + " / " + conversation);
      Json context = *vectors.find("conversations")->find(conversation);
      context["bos_token"] = *vectors.find("bos_token");
      context["eos_token"] = *vectors.find("eos_token");
      check_case(vectors.find("templates")->find(name)->as_string(), context, item, options);
    }
  }
}

}  // namespace
}  // namespace fettle::text
