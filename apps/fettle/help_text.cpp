#include <algorithm>

#include "program.h"

namespace fettle::cli {
namespace {

constexpr size_t kWidth = 100;

// Breaks text into lines of at most `width` bytes at spaces.
std::vector<std::string> wrap(std::string_view text, size_t width) {
  std::vector<std::string> lines;
  std::string line;
  while (!text.empty()) {
    const size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      lines.push_back(std::move(line));
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line += word;
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  lines.push_back(std::move(line));
  return lines;
}

std::string entry(std::string_view left, std::string_view right, size_t column) {
  std::string out = "  " + std::string(left);
  bool first = true;
  if (out.size() + 2 > column) {
    out += "\n";
    first = false;
  }
  for (const std::string& line : wrap(right, kWidth - column)) {
    out += first ? std::string(column - out.size(), ' ') + line + "\n" : std::string(column, ' ') + line + "\n";
    first = false;
  }
  return out;
}

std::string left_side(const Option& o) {
  std::string out = fmt::format("{}", fmt::join(o.names, ", "));
  if (!o.positional && !o.meta.empty()) out += " " + o.meta;
  return out;
}

std::string right_side(const Option& o) {
  return o.choices.empty() ? o.help : fmt::format("{} ({})", o.help, fmt::join(o.choices, " | "));
}

std::string usage_line(const Command& c) {
  std::string out = "fettle " + c.name();
  for (const Option& o : c.options()) {
    if (!o.positional) continue;
    const bool list = std::holds_alternative<std::vector<std::string>*>(o.target);
    const std::string word = o.meta + (list ? "..." : "");
    out += o.required ? " " + word : " [" + word + "]";
  }
  for (const Option& o : c.options())
    if (o.required && !o.positional) out += fmt::format(" {} {}", o.names.front(), o.meta);
  return out + " [options]";
}

std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if (c == '\'')
      out += "\\(aq";
    else
      out += c;
  }
  return out.starts_with('.') ? "\\&" + out : out;
}

}  // namespace

std::string usage_text(const Program& program) {
  std::string out =
      "fettle compresses language models, runs them fast, and measures what it cost.\n\n"
      "usage: fettle COMMAND [arguments]\n\ncommands:\n";
  for (const Command& c : program.commands()) {
    std::string name = c.name();
    for (const std::string& a : c.aliases()) name += ", " + a;
    out += entry(name, c.summary(), 26);
  }
  out +=
      "\nMODEL is a directory in Hugging Face layout, a .gguf file, or a hub id org/name found in the local cache.\n"
      "Results go to stdout, logs to stderr. `fettle COMMAND --help` explains a command; start with `fettle demo`.\n"
      "exit status: 0 done, 2 usage, 3 bad input file, 4 not enough memory, disk or context, 5 read or write failed,\n"
      "  6 network, 7 non-finite numbers or a failed check, 70 our bug, 130/143 interrupted\n";
  return out;
}

std::string help_text(const Command& c) {
  std::string out = fmt::format("{}\n\nusage: {}\n", c.summary(), usage_line(c));
  if (!c.aliases().empty()) out += fmt::format("also called: {}\n", fmt::join(c.aliases(), ", "));
  for (const bool positional : {true, false}) {
    bool heading = false;
    for (const Option& o : c.options()) {
      if (o.positional != positional) continue;
      if (!heading) out += positional ? "\narguments:\n" : "\noptions:\n";
      heading = true;
      out += entry(left_side(o), right_side(o), 32);
    }
  }
  if (!c.details().empty()) {
    out += "\n";
    for (std::string_view text = c.details(); !text.empty();) {
      const size_t line = std::min(text.find('\n'), text.size());
      for (const std::string& l : wrap(text.substr(0, line), kWidth)) out += l + "\n";
      text.remove_prefix(std::min(line + 1, text.size()));
    }
  }
  if (!c.examples().empty()) out += "\nexamples:\n";
  for (const auto& [line, explanation] : c.examples()) out += fmt::format("  {}\n      {}\n", line, explanation);
  return out;
}

std::string man_page(const Program& program) {
  std::string out =
      ".TH FETTLE 1 \"\" \"fettle\" \"User Commands\"\n.SH NAME\nfettle \\- compress, run and measure language models\n"
      ".SH SYNOPSIS\n.B fettle\n.I COMMAND\n.RI [ arguments ]\n.SH DESCRIPTION\n"
      "MODEL is a directory in Hugging Face layout, a .gguf file, or a hub id org/name found in the local cache.\n"
      "Results go to standard output, logs and progress to standard error.\n.SH COMMANDS\n";
  for (const Command& c : program.commands()) {
    out += fmt::format(".SS \"{}\"\n{}\n", roff(usage_line(c)), roff(c.summary()));
    if (!c.aliases().empty())
      out += fmt::format(".br\nAlso called: {}\n", roff(fmt::format("{}", fmt::join(c.aliases(), ", "))));
    for (const Option& o : c.options()) out += fmt::format(".TP\n.B {}\n{}\n", roff(left_side(o)), roff(right_side(o)));
    if (!c.details().empty()) {
      out += ".PP\n";
      for (std::string_view text = c.details(); !text.empty();) {
        const size_t line = std::min(text.find('\n'), text.size());
        out += line == 0 ? std::string(".PP\n") : roff(text.substr(0, line)) + "\n";
        text.remove_prefix(std::min(line + 1, text.size()));
      }
    }
    for (const auto& [line, explanation] : c.examples())
      out += fmt::format(".PP\n.nf\n{}\n.fi\n{}\n", roff(line), roff(explanation));
  }
  out +=
      ".SH EXIT STATUS\n0 done, 1 failed, 2 usage, 3 bad input file, 4 not enough memory, disk or context, 5 read or "
      "write "
      "failed, 6 network, 7 non\\-finite numbers or a failed check, 70 internal error, 130 or 143 interrupted.\n"
      ".SH ENVIRONMENT\n.TP\n.B FETTLE_ISA\nForces a kernel level (scalar, avx2, avx512, ...), like \\-\\-isa.\n"
      ".TP\n.B FETTLE_DEMO_DIR\nWhere the demo looks for its model and text first.\n";
  return out;
}

}  // namespace fettle::cli
