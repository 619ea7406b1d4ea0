// Runs one end-to-end test: a text file of shell commands and expectations on what they print.
//
//   # comment; "# name: area/title" names the test
//   let    NAME value                  sets $NAME for later lines
//   run    COMMAND                     /bin/sh -c; `fettle` is the program under test
//   expect exit N                      of the last run (a run without this line must exit 0)
//   expect stdout ~ REGEX              POSIX extended, ^ and $ match at lines; !~ for "does not match"
//   expect stdout = TEXT               exactly TEXT (\n for a line end)
//   expect json .key.list[0] OP VALUE  of stdout as JSON; OP is == != <= >= < > or ~; VALUE a "text" or a product
//                                      such as 1.15 * $BASE
//   keep   NAME json .key              stores a JSON value of stdout in $NAME
//   expect path P | expect no path P   shell patterns are expanded
//
// Variables: $TMP (an empty folder, removed afterwards), $DATA (tests/data), $MODELS (models/), plus the environment.
#include <glob.h>
#include <regex.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace {

using fettle::Json;

struct Run {
  int line = 0;
  std::string command, out, err;
  int status = 0;
  bool status_checked = false;
};

class Script {
 public:
  Script(std::string path, std::string tmp, std::map<std::string, std::string> variables)
      : path_(std::move(path)), tmp_(std::move(tmp)), variables_(std::move(variables)) {}

  int execute() {
    std::ifstream in(path_);
    if (!in) return report("cannot open the script");
    std::string text;
    for (line_ = 1; std::getline(in, text); ++line_) {
      while (text.ends_with('\\')) {  // a line may go on
        text.pop_back();
        std::string more;
        std::getline(in, more);
        ++line_;
        text += more;
      }
      const std::string word = take_word(text);
      if (word.empty() || word[0] == '#') continue;
      if (word == "let") {
        const std::string name = take_word(text);
        variables_[name] = expand(text);
      } else if (word == "run") {
        check_last_status();
        run(text);
      } else if (word == "keep") {
        const std::string name = take_word(text);
        take_word(text);
        const Json* v = json_at(take_word(text));
        if (v != nullptr) variables_[name] = v->is_string() ? v->as_string() : v->dump();
      } else if (word == "expect") {
        expect(text);
      } else {
        report("unknown word '" + word + "'");
      }
    }
    check_last_status();
    if (runs_ == 0 || checks_ == 0) report("the script ran or checked nothing");
    std::printf("%s: %d runs, %d checks, %d failures\n", path_.c_str(), runs_, checks_, failures_);
    return failures_ == 0 ? 0 : 1;
  }

 private:
  static std::string take_word(std::string& text) {
    const size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string::npos) {
      text.clear();
      return {};
    }
    const size_t end = std::min(text.find_first_of(" \t", begin), text.size());
    std::string word = text.substr(begin, end - begin);
    const size_t rest = text.find_first_not_of(" \t", end);
    text = rest == std::string::npos ? "" : text.substr(rest);
    return word;
  }

  // Replaces $NAME for the names this script knows; everything else is left to the shell.
  std::string expand(const std::string& text) const {
    std::string out;
    for (size_t i = 0; i < text.size();) {
      size_t end = i + 1;
      while (text[i] == '$' && end < text.size() &&
             (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_'))
        ++end;
      const auto it = variables_.find(text.substr(i + 1, end - i - 1));
      if (text[i] == '$' && it != variables_.end()) {
        out += it->second;
        i = end;
      } else {
        out += text[i++];
      }
    }
    return out;
  }

  int report(const std::string& message) {
    ++failures_;
    std::printf("%s:%d: %s\n", path_.c_str(), line_, message.c_str());
    if (!last_.command.empty())
      std::printf("  command: %s\n  exit %d\n  stdout: %.2000s\n  stderr: %.2000s\n", last_.command.c_str(),
                  last_.status, last_.out.c_str(), last_.err.c_str());
    return 1;
  }

  void check_last_status() {
    if (!last_.command.empty() && !last_.status_checked && last_.status != 0)
      report("expected exit 0 from line " + std::to_string(last_.line));
    last_ = {};
  }

  void run(const std::string& text) {
    ++runs_;
    last_ = {line_, expand(text), {}, {}, 0, false};
    const std::string out = tmp_ + "/.stdout", err = tmp_ + "/.stderr";
    const std::string command = "cd '" + tmp_ + "' && { " + last_.command + "\n} >'" + out + "' 2>'" + err + "'";
    const int status = std::system(command.c_str());
    last_.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    last_.out = fettle::read_file(out, size_t{256} << 20);
    last_.err = fettle::read_file(err, size_t{256} << 20);
  }

  void expect(std::string text) {
    ++checks_;
    const std::string what = take_word(text);
    if (what == "exit") {
      last_.status_checked = true;
      const std::string want = take_word(text);
      if (std::to_string(last_.status) != want) report("expected exit " + want);
    } else if (what == "stdout" || what == "stderr") {
      expect_text(what == "stdout" ? last_.out : last_.err, text);
    } else if (what == "json") {
      expect_json(text);
    } else if (what == "path") {
      if (!matches_path(expand(text))) report("expected to find " + expand(text));
    } else if (what == "no" && take_word(text) == "path") {
      if (matches_path(expand(text))) report("expected not to find " + expand(text));
    } else {
      report("unknown expectation '" + what + "'");
    }
  }

  void expect_text(const std::string& found, std::string text) {
    const std::string op = take_word(text), want = expand(text);
    if (op == "=") {
      std::string exact;
      for (size_t i = 0; i < want.size(); ++i) {
        const bool newline = want.compare(i, 2, "\\n") == 0;
        exact += newline ? '\n' : want[i];
        i += newline ? 1 : 0;
      }
      if (found != exact) report("expected exactly '" + want + "'");
      return;
    }
    if (op != "~" && op != "!~") {
      report("unknown comparison '" + op + "'");
      return;
    }
    if (matches(found, want) != (op == "~")) report("expected text " + op + " " + want);
  }

  bool matches(const std::string& text, const std::string& pattern) {
    regex_t regex;
    if (regcomp(&regex, pattern.c_str(), REG_EXTENDED | REG_NOSUB | REG_NEWLINE) != 0) {
      report("bad pattern " + pattern);
      return false;
    }
    const bool hit = regexec(&regex, text.c_str(), 0, nullptr, 0) == 0;
    regfree(&regex);
    return hit;
  }

  static bool matches_path(const std::string& pattern) {
    glob_t found{};
    const bool hit = glob(pattern.c_str(), GLOB_PERIOD, nullptr, &found) == 0;
    globfree(&found);
    return hit;
  }

  const Json* json_at(const std::string& path) {
    try {
      json_ = fettle::parse_json(last_.out, "stdout", {size_t{256} << 20, 64});
    } catch (const fettle::Error& e) {
      report(e.what());
      return nullptr;
    }
    const Json* at = &json_;
    for (size_t i = 0; i < path.size() && at != nullptr;) {
      if (path[i] == '.') {
        const size_t end = std::min(path.find_first_of(".[", i + 1), path.size());
        if (end > i + 1) at = at->find(path.substr(i + 1, end - i - 1));
        i = end;
      } else if (path[i] == '[') {
        const size_t index = std::strtoul(path.c_str() + i + 1, nullptr, 10);
        at = at->is_array() && index < at->size() ? &(*at)[index] : nullptr;
        i = path.find(']', i) + 1;
      } else {
        at = nullptr;
      }
    }
    if (at == nullptr) report("no JSON value at " + path);
    return at;
  }

  double product(const std::string& text) {
    double value = 1;
    std::string rest = expand(text);
    for (std::string word = take_word(rest); !word.empty(); word = take_word(rest)) {
      if (word == "*") continue;
      char* end = nullptr;
      value *= std::strtod(word.c_str(), &end);
      if (*end != '\0') report("expected a number, found '" + word + "'");
    }
    return value;
  }

  void expect_json(std::string text) {
    const std::string path = take_word(text);
    const std::string op = take_word(text);
    const Json* v = json_at(path);
    if (v == nullptr) return;
    const std::string shown = v->is_string() ? v->as_string() : v->dump();
    if (op == "~") {
      if (!matches(shown, expand(text))) report("expected " + path + " ~ " + expand(text) + ", found " + shown);
      return;
    }
    bool ok = false;
    if (text.starts_with('"') || text == "true" || text == "false" || text == "null") {
      const std::string want = expand(text);
      const bool equal = v->dump() == want;
      ok = op == "==" ? equal : op == "!=" && !equal;
    } else {
      const double want = product(text);
      const double got = v->is_number() ? v->as_double() : v->is_array() ? static_cast<double>(v->size()) : NAN;
      ok = op == "=="   ? got == want
           : op == "!=" ? got != want
           : op == "<=" ? got <= want
           : op == ">=" ? got >= want
           : op == "<"  ? got < want
                        : op == ">" && got > want;
    }
    if (!ok) report("expected " + path + " " + op + " " + expand(text) + ", found " + shown);
  }

  std::string path_, tmp_;
  std::map<std::string, std::string> variables_;
  Run last_;
  Json json_;
  int line_ = 0, runs_ = 0, checks_ = 0, failures_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: cli_runner SCRIPT BIN_DIR SOURCE_DIR\n");
    return 2;
  }
  const std::string script = std::filesystem::absolute(argv[1]), bin = std::filesystem::absolute(argv[2]),
                    source = argv[3];
  std::string tmp = (std::filesystem::temp_directory_path() / "fettle-cli-XXXXXX").string();
  if (mkdtemp(tmp.data()) == nullptr) return 2;
  setenv("PATH", (bin + ":" + (std::getenv("PATH") != nullptr ? std::getenv("PATH") : "/usr/bin:/bin")).c_str(), 1);
  setenv("HF_HOME", (tmp + "/hf").c_str(), 1);  // never the user's cache
  unsetenv("FETTLE_ISA");
  int status = 1;
  try {
    status =
        Script(script, tmp, {{"TMP", tmp}, {"DATA", source + "/tests/data"}, {"MODELS", source + "/models"}}).execute();
  } catch (const std::exception& e) {
    std::printf("%s\n", e.what());
  }
  std::filesystem::remove_all(tmp);
  return status;
}
