#include <algorithm>

#include "program.h"

namespace fettle::cli {
namespace {

bool takes_file(const Option& o) {
  return o.meta == "FILE" || o.meta == "DIR" || o.meta == "OUT" || o.meta == "MODEL" || o.meta == "A" || o.meta == "B";
}

std::vector<std::string> all_names(const Program& p) {
  std::vector<std::string> names;
  for (const Command& c : p.commands()) {
    names.push_back(c.name());
    names.insert(names.end(), c.aliases().begin(), c.aliases().end());
  }
  return names;
}

std::string bash(const Program& p) {
  std::string out =
      "# bash completion for fettle\n_fettle() {\n  local cur prev cmd\n  COMPREPLY=()\n  "
      "cur=\"${COMP_WORDS[COMP_CWORD]}\"\n"
      "  prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n  cmd=\"${COMP_WORDS[1]}\"\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n";
  out += fmt::format("    COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))\n    return\n  fi\n  case \"$cmd\" in\n",
                     fmt::join(all_names(p), " "));
  for (const Command& c : p.commands()) {
    std::string pattern = c.name(), words;
    for (const std::string& a : c.aliases()) pattern += "|" + a;
    out += fmt::format("    {})\n      case \"$prev\" in\n", pattern);
    for (const Option& o : c.options()) {
      if (!o.positional)
        for (const std::string& n : o.names) words += n + " ";
      if (!o.positional && !o.choices.empty())
        out += fmt::format("        {}) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;;\n",
                           fmt::join(o.names, "|"), fmt::join(o.choices, " "));
    }
    out += fmt::format(
        "      esac\n      [[ \"$cur\" == -* ]] && COMPREPLY=($(compgen -W \"{}--help\" -- \"$cur\"))\n"
        "      ;;\n",
        words);
  }
  return out + "  esac\n}\ncomplete -o default -F _fettle fettle\n";
}

std::string quote(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// Inside single quotes of a _arguments spec: ' ends the string, [ ] and : separate fields.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quote(out, "[]:");
}

std::string zsh(const Program& p) {
  std::string out = "#compdef fettle\n_fettle() {\n  local -a commands\n  commands=(\n";
  for (const Command& c : p.commands()) out += fmt::format("    '{}:{}'\n", c.name(), zsh_text(c.summary()));
  out +=
      "  )\n  if (( CURRENT == 2 )); then _describe command commands; return; fi\n  local command=$words[2]\n"
      "  shift words; (( CURRENT-- ))\n  case $command in\n";
  for (const Command& c : p.commands()) {
    std::string pattern = c.name();
    for (const std::string& a : c.aliases()) pattern += "|" + a;
    out += fmt::format("    {})\n      _arguments", pattern);
    for (const Option& o : c.options()) {
      const std::string action = !o.choices.empty() ? fmt::format("({})", fmt::join(o.choices, " "))
                                 : takes_file(o)    ? "_files"
                                                    : " ";
      if (o.positional) {
        out += fmt::format(" \\\n        '{}{}:{}'",
                           std::holds_alternative<std::vector<std::string>*>(o.target) ? "*:" : ":", zsh_text(o.meta),
                           action);
        continue;
      }
      for (const std::string& n : o.names)
        out += o.is_switch()
                   ? fmt::format(" \\\n        '{}[{}]'", n, zsh_text(o.help))
                   : fmt::format(" \\\n        '{}[{}]:{}:{}'", n, zsh_text(o.help), zsh_text(o.meta), action);
    }
    out += "\n      ;;\n";
  }
  return out + "  esac\n}\n_fettle \"$@\"\n";
}

std::string fish(const Program& p) {
  std::string out = "# fish completion for fettle\n";
  for (const Command& c : p.commands())
    out += fmt::format("complete -c fettle -n __fish_use_subcommand -f -a {} -d '{}'\n", c.name(),
                       quote(c.summary(), "'\\"));
  for (const Command& c : p.commands()) {
    std::string names = c.name();
    for (const std::string& a : c.aliases()) names += " " + a;
    for (const Option& o : c.options()) {
      if (o.positional) continue;
      std::string spec;
      for (const std::string& n : o.names)
        spec += n.starts_with("--") ? " -l " + n.substr(2)
                : n.size() == 2     ? " -s " + n.substr(1)
                                    : " -o " + n.substr(1);
      if (!o.is_switch()) spec += takes_file(o) ? " -r -F" : " -x";
      if (!o.choices.empty()) spec += fmt::format(" -a '{}'", fmt::join(o.choices, " "));
      out += fmt::format("complete -c fettle -n '__fish_seen_subcommand_from {}'{} -d '{}'\n", names, spec,
                         quote(o.help, "'\\"));
    }
  }
  return out;
}

}  // namespace

std::string completion_script(const Program& program, std::string_view shell) {
  if (shell == "bash") return bash(program);
  if (shell == "zsh") return zsh(program);
  if (shell == "fish") return fish(program);
  fail(ErrorCode::kUsage, "fettle completion: expected bash, zsh or fish, found '{}'", printable(shell));
}

}  // namespace fettle::cli
