#include "eval/html_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "eval/svg.h"

namespace fettle::eval {
namespace {

// Contrast of text on background is above 7:1 in both schemes.
constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --muted: #4a525c; --grid: #dfe3e8;
  --accent: #0a5ea8; --accent-2: #b3450b; --stripe: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e8eaed; --muted: #b3bac4; --grid: #363c44;
  --accent: #6fb3f2; --accent-2: #f0a070; --stripe: #1b1f25; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0 1rem; max-width: 44rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 1rem 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
caption { text-align: left; color: var(--muted); padding-bottom: .4rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--grid); text-align: left; white-space: nowrap; }
.num { text-align: right; }
thead th { border-bottom: 2px solid var(--muted); }
tbody tr:nth-child(even) { background: var(--stripe); }
tbody th { font-weight: 600; }
pre { background: var(--stripe); padding: .9rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .95rem; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 13px system-ui, "Segoe UI", Roboto, sans-serif; }
svg .tick, svg .axis { fill: var(--muted); }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .point { fill: var(--accent); opacity: .75; } svg .best { fill: var(--accent-2); }
svg .frontier { fill: none; stroke: var(--accent-2); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .error { stroke: var(--ink); stroke-width: 1.5; opacity: .65; }
svg .bar { fill: var(--accent); }
)";

// Characters, not bytes: "±" is one column wide.
size_t display_width(std::string_view s) {
  size_t n = 0;
  for (size_t i = 0; i < s.size(); i += utf8::decode(s, i).length) ++n;
  return n;
}

std::string table_html(const ReportTable& t) {
  std::string out = "<div class=\"scroll\"><table>\n";
  if (!t.caption.empty()) out += fmt::format("<caption>{}</caption>\n", escape_xml(t.caption));
  out += "<thead><tr>";
  for (const auto& c : t.columns)
    out += fmt::format("<th scope=\"col\"{}>{}</th>", c.numeric ? " class=\"num\"" : "", escape_xml(c.title));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : t.rows) {
    FETTLE_CHECK_EQ(row.size(), t.columns.size());
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      const char* css = t.columns[i].numeric ? " class=\"num\"" : "";
      out += i == 0 ? fmt::format("<th scope=\"row\"{}>{}</th>", css, escape_xml(row[i]))
                    : fmt::format("<td{}>{}</td>", css, escape_xml(row[i]));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::string render_html(const HtmlReport& report) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{}</style>\n"
      "</head>\n<body>\n<main>\n<h1>{}</h1>\n",
      escape_xml(report.title), kStyle, escape_xml(report.title));
  if (!report.lead.empty()) out += fmt::format("<p>{}</p>\n", escape_xml(report.lead));
  if (!report.facts.empty()) {
    out += "<dl>\n";
    for (const auto& [name, value] : report.facts)
      out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape_xml(name), escape_xml(value));
    out += "</dl>\n";
  }
  for (const ReportSection& s : report.sections) {
    out += fmt::format("<section>\n<h2>{}</h2>\n", escape_xml(s.heading));
    if (!s.text.empty()) out += fmt::format("<p>{}</p>\n", escape_xml(s.text));
    for (const ReportTable& t : s.tables) out += table_html(t);
    for (const std::string& c : s.charts) out += fmt::format("<figure>\n{}</figure>\n", c);
    if (!s.verbatim.empty()) out += fmt::format("<pre>{}</pre>\n", escape_xml(s.verbatim));
    out += "</section>\n";
  }
  return out + "</main>\n</body>\n</html>\n";
}

std::string render_text(const ReportTable& table) {
  std::vector<size_t> width(table.columns.size());
  for (size_t c = 0; c < width.size(); ++c) {
    width[c] = display_width(table.columns[c].title);
    for (const auto& row : table.rows) width[c] = std::max(width[c], display_width(row.at(c)));
  }
  std::string out;
  const auto line = [&](auto&& cell) {
    std::string text;
    for (size_t c = 0; c < width.size(); ++c) {
      const std::string& s = cell(c);
      const std::string pad(width[c] - display_width(s), ' ');
      text += (c > 0 ? "  " : "") + (table.columns[c].numeric ? pad + s : s + pad);
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    out += text + "\n";
  };
  line([&](size_t c) -> const std::string& { return table.columns[c].title; });
  std::string rule;
  for (size_t c = 0; c < width.size(); ++c) rule += (c > 0 ? "  " : "") + std::string(width[c], '-');
  out += rule + "\n";
  for (const auto& row : table.rows) line([&](size_t c) -> const std::string& { return row[c]; });
  return out;
}

}  // namespace fettle::eval
