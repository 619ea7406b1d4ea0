#include "eval/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/utf8.h"

namespace fettle::eval {
namespace {

constexpr double kWidth = 720, kHeight = 420;
constexpr double kLeft = 76, kRight = 24, kTop = 20, kBottom = 56;

std::string number(double v) {
  if (v == 0) return "0";
  const double a = std::abs(v);
  return a >= 1e5 || a < 1e-3 ? fmt::format("{:.0e}", v) : fmt::format("{:.4g}", v);
}

// Maps data to pixels along one axis.
struct Axis {
  double low = 0, high = 1, from = 0, to = 1;
  bool log = false;

  double at(double v) const {
    const double a = log ? std::log10(low) : low, b = log ? std::log10(high) : high;
    return from + (to - from) * ((log ? std::log10(v) : v) - a) / (b - a);
  }
};

Axis linear_axis(double low, double high, double from, double to) {
  const double span = high > low ? high - low : std::max(1.0, std::abs(high));
  return {low - 0.06 * span, high + 0.06 * span, from, to, false};
}

Axis log_axis(double low, double high, double from, double to) { return {low / 1.35, high * 1.35, from, to, true}; }

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  for (int e = static_cast<int>(std::floor(std::log10(low))); e <= static_cast<int>(std::ceil(std::log10(high))); ++e)
    for (const double m : {1.0, 2.0, 5.0}) {
      const double v = m * std::pow(10.0, e);
      if (v >= low && v <= high) ticks.push_back(v);
    }
  return ticks;
}

std::string open_svg(const std::string& title, const std::string& description, double height) {
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\n<title>{}</title>\n"
      "<desc>{}</desc>\n",
      kWidth, height, escape_xml(title), escape_xml(description));
}

void draw_axes(std::string& out, const Axis& x, const Axis& y, const ScatterPlot& plot) {
  for (const double v : axis_ticks(x.low, x.high, 7))
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\"/>"
        "<text class=\"tick\" x=\"{0:.1f}\" y=\"{3:.1f}\" text-anchor=\"middle\">{4}</text>\n",
        x.at(v), y.from, y.to, y.from + 18, number(v));
  for (const double v : y.log ? log_ticks(y.low, y.high) : axis_ticks(y.low, y.high, 6))
    out += fmt::format(
        "<line class=\"grid\" x1=\"{1:.1f}\" y1=\"{0:.1f}\" x2=\"{2:.1f}\" y2=\"{0:.1f}\"/>"
        "<text class=\"tick\" x=\"{3:.1f}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        y.at(v), x.from, x.to, x.from - 8, y.at(v) + 4, number(v));
  out += fmt::format("<text class=\"axis\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                     (x.from + x.to) / 2, y.from + 42, escape_xml(plot.x_label));
  out += fmt::format(
      "<text class=\"axis\" x=\"16\" y=\"{0:.1f}\" text-anchor=\"middle\" transform=\"rotate(-90 16 "
      "{0:.1f})\">{1}</text>\n",
      (y.from + y.to) / 2, escape_xml(plot.y_label));
}

// Labels stand to the right of their point, or to the left near the right edge, and move down past one already there.
class LabelPlacer {
 public:
  std::string place(double px, double py, const std::string& label) {
    const double width = 7.2 * static_cast<double>(label.size());
    const bool left = px + 10 + width > kWidth - kRight;
    const double x = left ? px - 9 : px + 9;
    double y = py - 7;
    for (int tries = 0; tries < 12 && taken(x, y, width, left); ++tries) y += 13;
    boxes_.push_back({left ? x - width : x, y, width});
    return fmt::format("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y,
                       left ? "end" : "start", escape_xml(label));
  }

 private:
  struct Box {
    double x, y, width;
  };
  bool taken(double x, double y, double width, bool left) const {
    const double from = left ? x - width : x;
    return std::any_of(boxes_.begin(), boxes_.end(), [&](const Box& b) {
      return from < b.x + b.width && b.x < from + width && std::abs(y - b.y) < 12;
    });
  }
  std::vector<Box> boxes_;
};

}  // namespace

std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : utf8::sanitize(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // Controls other than tab, LF and CR may not stand in XML.
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\t' || c == '\n' || c == '\r') out += c;
    }
  }
  return out;
}

std::vector<size_t> pareto_frontier(const std::vector<ScatterPoint>& points) {
  std::vector<size_t> frontier;
  for (size_t i = 0; i < points.size(); ++i) {
    const bool beaten = std::any_of(points.begin(), points.end(), [&](const ScatterPoint& q) {
      return q.x <= points[i].x && q.y <= points[i].y && (q.x < points[i].x || q.y < points[i].y);
    });
    if (!beaten) frontier.push_back(i);
  }
  std::sort(frontier.begin(), frontier.end(),
            [&](size_t a, size_t b) { return points[a].x != points[b].x ? points[a].x < points[b].x : a < b; });
  return frontier;
}

std::vector<double> axis_ticks(double low, double high, int count) {
  if (!(high > low) || count < 1) return {low};
  const double raw = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double m : {1.0, 2.0, 5.0})
    if (m * power >= raw) {
      step = m * power;
      break;
    }
  std::vector<double> ticks;
  for (double v = std::ceil(low / step) * step; v <= high + 1e-9 * step; v += step)
    ticks.push_back(std::abs(v) < 1e-9 * step ? 0.0 : v);
  return ticks;
}

std::string svg_scatter(const ScatterPlot& plot) {
  std::vector<ScatterPoint> points;
  for (const ScatterPoint& p : plot.points)
    if (std::isfinite(p.x) && std::isfinite(p.y) && (!plot.log_y || p.y > 0)) points.push_back(p);
  std::string out = open_svg(plot.title, plot.description, kHeight);
  if (points.empty())
    return out + "<text class=\"axis\" x=\"360\" y=\"210\" text-anchor=\"middle\">no data</text></svg>\n";
  const auto [x_low, x_high] =
      std::minmax_element(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
  const auto [y_low, y_high] =
      std::minmax_element(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.y < b.y; });
  const Axis x = linear_axis(x_low->x, x_high->x, kLeft, kWidth - kRight);
  const Axis y = plot.log_y ? log_axis(y_low->y, y_high->y, kHeight - kBottom, kTop)
                            : linear_axis(y_low->y, y_high->y, kHeight - kBottom, kTop);
  draw_axes(out, x, y, plot);
  const std::vector<size_t> best = plot.frontier ? pareto_frontier(points) : std::vector<size_t>{};
  if (best.size() > 1) {
    out += "<polyline class=\"frontier\" points=\"";
    for (const size_t i : best) out += fmt::format("{:.1f},{:.1f} ", x.at(points[i].x), y.at(points[i].y));
    out += "\"/>\n";
  }
  LabelPlacer labels;
  for (size_t i = 0; i < points.size(); ++i) {
    const ScatterPoint& p = points[i];
    const bool on_frontier = std::find(best.begin(), best.end(), i) != best.end();
    if (p.y_error > 0) {
      const double low = plot.log_y ? std::max(p.y - p.y_error, y.low) : p.y - p.y_error;
      out += fmt::format("<line class=\"error\" x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\"/>\n",
                         x.at(p.x), y.at(low), y.at(p.y + p.y_error));
    }
    out += fmt::format(
        "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"><title>{}: {} {}, {} {}</title></circle>\n",
        on_frontier ? "best" : "point", x.at(p.x), y.at(p.y), escape_xml(p.label), number(p.x),
        escape_xml(plot.x_label), number(p.y), escape_xml(plot.y_label));
    out += labels.place(x.at(p.x), y.at(p.y), p.label);
  }
  return out + "</svg>\n";
}

std::string svg_bars(const BarChart& chart) {
  constexpr double kRow = 30, kLabelWidth = 150, kValueWidth = 130;
  const double height = 24 + kRow * static_cast<double>(std::max<size_t>(chart.bars.size(), 1));
  double largest = 0;
  for (const Bar& b : chart.bars)
    if (std::isfinite(b.value)) largest = std::max(largest, b.value + b.error);
  std::string out = open_svg(chart.title, chart.description, height);
  const double scale = largest > 0 ? (kWidth - kLabelWidth - kValueWidth) / largest : 0;
  for (size_t i = 0; i < chart.bars.size(); ++i) {
    const Bar& b = chart.bars[i];
    const double y = 12 + kRow * static_cast<double>(i), value = std::isfinite(b.value) ? std::max(b.value, 0.0) : 0;
    const double end = kLabelWidth + scale * value, error = scale * b.error;
    out += fmt::format("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
                       kLabelWidth - 8, y + 16, escape_xml(b.label));
    out += fmt::format("<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"20\" rx=\"2\"/>\n",
                       kLabelWidth, y + 2, std::max(end - kLabelWidth, 0.5));
    if (error > 0)
      out += fmt::format("<line class=\"error\" x1=\"{0:.1f}\" y1=\"{2:.1f}\" x2=\"{1:.1f}\" y2=\"{2:.1f}\"/>\n",
                         std::max(end - error, kLabelWidth), end + error, y + 12);
    const std::string text = b.error > 0 ? fmt::format("{} ± {}", number(b.value), number(b.error)) : number(b.value);
    out += fmt::format("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\">{} {}</text>\n", end + error + 8, y + 16, text,
                       escape_xml(chart.unit));
  }
  return out + "</svg>\n";
}

}  // namespace fettle::eval
