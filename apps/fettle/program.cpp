#include "program.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <CLI/CLI.hpp>

namespace fettle::cli {
namespace {

std::vector<std::string> split_names(std::string_view names) {
  std::vector<std::string> out;
  while (!names.empty()) {
    const size_t comma = std::min(names.find(','), names.size());
    out.emplace_back(names.substr(0, comma));
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
  return out;
}

// "-ctk": one dash, several letters; the parser knows only "-c" and "--cache-type-k".
bool is_single_dash_word(std::string_view name) { return name.size() > 2 && name[0] == '-' && name[1] != '-'; }

template <typename T>
T parse_number(std::string_view text, std::string_view option) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool finite = true;
  if constexpr (std::is_floating_point_v<T>) finite = std::isfinite(value);
  if (error != std::errc() || end != text.data() + text.size() || !finite)
    fail(ErrorCode::kUsage, "{}: expected {}, found '{}'", option,
         std::is_floating_point_v<T> ? "a number" : "an integer", printable(text));
  return value;
}

void check_choice(const Option& o, std::string_view value) {
  if (o.choices.empty() || std::find(o.choices.begin(), o.choices.end(), value) != o.choices.end()) return;
  fail(ErrorCode::kUsage, "{}: expected one of {}, found '{}'", o.names.back(), fmt::join(o.choices, ", "),
       printable(value));
}

struct Store {
  const Option& option;
  const std::vector<std::string>& values;  // as written, at least one

  void operator()(bool* target) const { *target = true; }
  void operator()(std::string* target) const {
    check_choice(option, values.back());
    *target = values.back();
  }
  void operator()(int64_t* target) const { *target = parse_number<int64_t>(values.back(), option.names.back()); }
  void operator()(double* target) const { *target = parse_number<double>(values.back(), option.names.back()); }
  void operator()(std::vector<std::string>* target) const {
    for (const std::string& v : values) check_choice(option, v);
    *target = values;
  }
};

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string did_you_mean(std::string_view wrong, const std::vector<std::string>& known) {
  const std::vector<std::string> near = nearest(wrong, known);
  return near.empty() ? std::string() : fmt::format("; did you mean {}?", near.front());
}

}  // namespace

std::vector<std::string> nearest(std::string_view wrong, const std::vector<std::string>& known) {
  std::vector<std::pair<size_t, std::string>> scored;
  for (const std::string& k : known) {
    const size_t d = edit_distance(wrong, k);
    if (d <= std::max<size_t>(1, wrong.size() / 3)) scored.emplace_back(d, k);
  }
  std::sort(scored.begin(), scored.end());
  std::vector<std::string> names;
  for (auto& [d, k] : scored) names.push_back(std::move(k));
  return names;
}

Command& Command::alias(std::string name) {
  aliases_.push_back(std::move(name));
  return *this;
}
Command& Command::details(std::string text) {
  details_ = std::move(text);
  return *this;
}
Command& Command::example(std::string line, std::string explanation) {
  examples_.emplace_back(std::move(line), std::move(explanation));
  return *this;
}
Command& Command::option(std::string_view names, Target target, std::string meta, std::string help) {
  options_.push_back({split_names(names), std::move(meta), std::move(help), target, {}, false, false});
  return *this;
}
Command& Command::toggle(std::string_view names, bool* target, std::string help) {
  options_.push_back({split_names(names), "", std::move(help), target, {}, false, false});
  return *this;
}
Command& Command::choices(std::vector<std::string> values) {
  options_.back().choices = std::move(values);
  return *this;
}
Command& Command::positional(std::string name, Target target, std::string help, bool required) {
  options_.push_back({{name}, name, std::move(help), target, {}, true, required});
  return *this;
}
Command& Command::on_run(std::function<void()> action) {
  action_ = std::move(action);
  return *this;
}

void Command::parse(std::vector<std::string> args) const {
  CLI::App app(summary_, name_);
  app.set_help_flag();
  std::deque<std::vector<std::string>> values;
  std::vector<std::pair<const Option*, CLI::Option*>> bound;
  std::map<std::string, std::string> rewrite;  // "-ctk" -> "--cache-type-k"
  std::vector<std::string> known;
  for (const Option& o : options_) {
    std::string spec;
    for (const std::string& n : o.names) {
      known.push_back(n);
      if (!is_single_dash_word(n)) spec += (spec.empty() ? "" : ",") + n;
    }
    for (const std::string& n : o.names)
      if (is_single_dash_word(n)) rewrite[n] = o.names.back();
    values.emplace_back();
    CLI::Option* option = o.is_switch() ? app.add_flag(spec) : app.add_option(spec, values.back());
    if (!o.is_switch()) {
      const bool list = std::holds_alternative<std::vector<std::string>*>(o.target);
      if (o.positional && list)
        option->expected(o.required ? 1 : 0, CLI::detail::expected_max_vector_size);
      else
        option->expected(1)->multi_option_policy(list ? CLI::MultiOptionPolicy::TakeAll
                                                      : CLI::MultiOptionPolicy::TakeLast);
      option->allow_extra_args(list && o.positional);  // vectors would take every free argument
    }
    if (o.required) option->required();
    bound.emplace_back(&o, option);
  }
  for (std::string& a : args) {
    if (a == "--") break;
    if (const auto it = rewrite.find(a); it != rewrite.end()) a = it->second;
  }
  try {
    std::reverse(args.begin(), args.end());  // CLI11 takes the arguments last first
    app.parse(args);
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> extra = app.remaining();
    const std::string found = extra.empty() ? std::string() : extra.front();
    fail(ErrorCode::kUsage, "fettle {}: unknown {} '{}'{} (fettle {} --help lists the options)", name_,
         found.starts_with("-") ? "option" : "argument", printable(found), did_you_mean(found, known), name_);
  } catch (const CLI::ParseError& e) {
    std::string what = e.what();
    std::replace(what.begin(), what.end(), '\n', ' ');
    fail(ErrorCode::kUsage, "fettle {}: {} (fettle {} --help lists the options)", name_, printable(what), name_);
  }
  for (size_t i = 0; i < bound.size(); ++i)
    if (bound[i].second->count() > 0) std::visit(Store{*bound[i].first, values[i]}, bound[i].first->target);
}

Command& Program::add(std::string name, std::string summary) {
  return commands_.emplace_back(std::move(name), std::move(summary));
}

const Command* Program::find(std::string_view name) const {
  for (const Command& c : commands_)
    if (c.name() == name || std::find(c.aliases().begin(), c.aliases().end(), name) != c.aliases().end()) return &c;
  return nullptr;
}

void Program::run(std::vector<std::string> args) const {
  if (args.empty()) {
    std::vector<std::string> names;
    for (const Command& c : commands_) names.push_back(c.name());
    fail(ErrorCode::kUsage, "fettle: expected a command: {} (fettle --help explains them)", fmt::join(names, ", "));
  }
  std::string name = args.front();
  if (name == "--help" || name == "-h") name = "help";
  if (name == "--version" || name == "-V") name = "version";
  const Command* command = find(name);
  if (command == nullptr) {
    std::vector<std::string> names;
    for (const Command& c : commands_) names.push_back(c.name());
    fail(ErrorCode::kUsage, "fettle: unknown command '{}'{} (fettle --help lists them)", printable(name),
         did_you_mean(name, names));
  }
  args.erase(args.begin());
  const auto end = std::find(args.begin(), args.end(), "--");
  const bool help =
      std::find_if(args.begin(), end, [](const std::string& a) { return a == "--help" || a == "-h"; }) != end;
  if (help && command->name() != "help") {
    find("help")->parse({command->name()});
    find("help")->run();
    return;
  }
  command->parse(std::move(args));
  command->run();
}

}  // namespace fettle::cli
