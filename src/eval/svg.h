#pragma once

#include <string>
#include <vector>

// Small SVG charts for reports: no script, no external resource; colours come from CSS custom properties of the page
// (--ink, --muted, --grid, --accent, --accent-2), so that light and dark schemes need one drawing.
namespace fettle::eval {

std::string escape_xml(std::string_view text);

struct ScatterPoint {
  double x = 0, y = 0;
  double y_error = 0;  // half length of the error bar; 0 = none
  std::string label = {};
};

struct ScatterPlot {
  std::string title = {}, description = {};  // <title> and <desc> for screen readers
  std::string x_label = {}, y_label = {};
  bool log_y = false;    // points with y <= 0 are left out then
  bool frontier = true;  // mark and join points that no other point beats in both x and y
  std::vector<ScatterPoint> points = {};
};

struct Bar {
  std::string label = {};
  double value = 0, error = 0;
};

struct BarChart {
  std::string title = {}, description = {}, unit = {};
  std::vector<Bar> bars = {};
};

// Indices of the points that have no other point with x and y both smaller or equal (and one smaller), by ascending x.
std::vector<size_t> pareto_frontier(const std::vector<ScatterPoint>& points);

// Round axis marks (1, 2 or 5 times a power of ten) that cover [low, high], about `count` of them.
std::vector<double> axis_ticks(double low, double high, int count);

std::string svg_scatter(const ScatterPlot& plot);
std::string svg_bars(const BarChart& chart);

}  // namespace fettle::eval
