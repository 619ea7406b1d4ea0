#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fettle::eval {

// Plain text table of a report; the first column is the row's header. `numeric` columns are right aligned.
struct ReportTable {
  std::string caption = {};
  struct Column {
    std::string title;
    bool numeric = true;
  };
  std::vector<Column> columns = {};
  std::vector<std::vector<std::string>> rows = {};  // each as long as columns
};

struct ReportSection {
  std::string heading = {};
  std::string text = {};                 // one paragraph, plain text
  std::vector<std::string> charts = {};  // SVG from eval/svg.h
  std::vector<ReportTable> tables = {};
  std::string verbatim = {};  // preformatted, e.g. generated text
};

// A self-contained page: no script, no external resource, light and dark scheme, tables with headers, charts with
// titles, wide tables scroll inside their own box.
struct HtmlReport {
  std::string title = {}, lead = {};
  std::vector<std::pair<std::string, std::string>> facts = {};  // model, text, machine, ...
  std::vector<ReportSection> sections = {};
};

std::string render_html(const HtmlReport& report);
// The same table as aligned text for a terminal.
std::string render_text(const ReportTable& table);

}  // namespace fettle::eval
