#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/cancel.h"

// The command line as data: commands register their options once, and parsing, --help, man page and shell completion
// all come from that one description.
namespace fettle::cli {

// Where an option's value goes. Numbers are read strictly (whole text, in range of the type).
using Target = std::variant<bool*, std::string*, int64_t*, double*, std::vector<std::string>*>;

struct Option {
  std::vector<std::string> names;  // "-c", "--ctx-size"; llama.cpp's single-dash words such as "-ctk" are allowed
  std::string meta;                // "N", "FILE"; empty for a switch
  std::string help;
  Target target;
  std::vector<std::string> choices;  // accepted values; empty = any
  bool positional = false, required = false;
  bool is_switch() const { return std::holds_alternative<bool*>(target); }
};

class Command {
 public:
  Command(std::string name, std::string summary) : name_(std::move(name)), summary_(std::move(summary)) {}

  Command& alias(std::string name);
  Command& details(std::string text);  // paragraphs below the option list
  Command& example(std::string line, std::string explanation);
  // names: comma separated, "-t,--threads".
  Command& option(std::string_view names, Target target, std::string meta, std::string help);
  Command& toggle(std::string_view names, bool* target, std::string help);
  Command& choices(std::vector<std::string> values);  // of the option added last
  Command& positional(std::string name, Target target, std::string help, bool required = true);
  Command& on_run(std::function<void()> action);

  const std::string& name() const { return name_; }
  const std::string& summary() const { return summary_; }
  const std::vector<std::string>& aliases() const { return aliases_; }
  const std::string& details() const { return details_; }
  const std::vector<std::pair<std::string, std::string>>& examples() const { return examples_; }
  const std::vector<Option>& options() const { return options_; }
  void run() const { action_(); }
  // Command line after the command name. Throws kUsage.
  void parse(std::vector<std::string> args) const;

 private:
  std::string name_, summary_, details_;
  std::vector<std::string> aliases_;
  std::vector<std::pair<std::string, std::string>> examples_;
  std::vector<Option> options_;
  std::function<void()> action_;
};

class Program {
 public:
  explicit Program(CancelToken& cancel) : cancel_(cancel) {}
  Command& add(std::string name, std::string summary);
  const std::deque<Command>& commands() const { return commands_; }
  const Command* find(std::string_view name) const;  // by name or alias; nullptr
  CancelToken& cancel() const { return cancel_; }
  // Runs one command line (without the program's name). Throws Error.
  void run(std::vector<std::string> args) const;

 private:
  std::deque<Command> commands_;  // stable addresses
  CancelToken& cancel_;
};

std::string usage_text(const Program& program);                                 // fettle --help
std::string help_text(const Command& command);                                  // fettle CMD --help
std::string man_page(const Program& program);                                   // roff, section 1
std::string completion_script(const Program& program, std::string_view shell);  // bash, zsh, fish; throws kUsage

// Names closest to a mistyped one, best first; empty when none is near.
std::vector<std::string> nearest(std::string_view wrong, const std::vector<std::string>& known);

}  // namespace fettle::cli
