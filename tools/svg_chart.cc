#include "tools/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/str.h"

namespace thermocline::tools {
namespace {

// In SVG units, which the page scales to the width it has.
constexpr double kWidth = 640, kHeight = 300;
constexpr double kLeft = 52, kRight = 26, kTop = 12, kBottom = 44;
constexpr double kRowHeight = 18, kRowGap = 3;

std::string Text(double x, double y, std::string_view anchor, std::string_view text) {
  return Str("<text x='", ShortNumber(x, 1), "' y='", ShortNumber(y, 1), "' text-anchor='", anchor,
             "'>", HtmlEscaped(text), "</text>");
}

std::string Line(double x1, double y1, double x2, double y2) {
  return Str("<line class='grid' x1='", ShortNumber(x1, 1), "' y1='", ShortNumber(y1, 1), "' x2='",
             ShortNumber(x2, 1), "' y2='", ShortNumber(y2, 1), "'/>");
}

std::string Rect(double x, double y, double width, double height, std::string_view attributes) {
  return Str("<rect x='", ShortNumber(x, 2), "' y='", ShortNumber(y, 2), "' width='",
             ShortNumber(std::max(width, 0.0), 2), "' height='", ShortNumber(height, 2), "' ",
             attributes);
}

std::string Begin(double height) {
  return Str("<svg viewBox='0 0 ", ShortNumber(kWidth, 0), " ", ShortNumber(height, 0),
             "' role='img'>");
}

// Where `value` lies between the ends of an axis, 0 to 1.
double Way(const Axis& axis, double value) {
  const double clamped = std::clamp(value, axis.min, axis.max);
  if (!axis.is_log) return (clamped - axis.min) / (axis.max - axis.min);
  return std::log(clamped / axis.min) / std::log(axis.max / axis.min);
}

double XOf(const Axis& axis, double value) {
  return kLeft + Way(axis, value) * (kWidth - kLeft - kRight);
}
double YOf(const Axis& axis, double value) {
  return kHeight - kBottom - Way(axis, value) * (kHeight - kTop - kBottom);
}

std::string AxesOf(const Axis& x, const Axis& y) {
  std::string svg;
  for (const auto& [value, label] : y.ticks) {
    svg += Line(kLeft, YOf(y, value), kWidth - kRight, YOf(y, value));
    svg += Text(kLeft - 6, YOf(y, value) + 4, "end", label);
  }
  for (const auto& [value, label] : x.ticks) {
    svg += Line(XOf(x, value), kTop, XOf(x, value), kHeight - kBottom);
    svg += Text(XOf(x, value), kHeight - kBottom + 16, "middle", label);
  }
  svg += Text((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", x.label);
  svg += Str("<text transform='translate(12 ", ShortNumber((kTop + kHeight - kBottom) / 2, 1),
             ") rotate(-90)' text-anchor='middle'>", HtmlEscaped(y.label), "</text>");
  return svg;
}

std::string LineOf(const Axis& x, const Axis& y, const Series& series) {
  std::string points, markers;
  for (const auto& [px, py] : series.points) {
    const std::string sx = ShortNumber(XOf(x, px), 1), sy = ShortNumber(YOf(y, py), 1);
    points += Str(sx, ",", sy, " ");
    if (series.has_markers) {
      markers += Str("<circle cx='", sx, "' cy='", sy, "' r='3' fill='", series.colour, "'/>");
    }
  }
  return Str("<g class='series'><title>", HtmlEscaped(series.name), "</title><polyline points='",
             points, "' stroke='", series.colour, "'/>", markers, "</g>");
}

}  // namespace

std::string HtmlEscaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string ShortNumber(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  std::string brief = text;
  if (brief.find('.') == std::string::npos) return brief;
  brief.erase(brief.find_last_not_of('0') + 1);
  if (brief.back() == '.') brief.pop_back();
  return brief == "-0" ? "0" : brief;
}

// Blue over violet to orange: the hues differ in lightness too little to vanish on either ground.
std::string ScaleColour(size_t i, size_t n) {
  const double way = n < 2 ? 0 : static_cast<double>(i) / static_cast<double>(n - 1);
  return Str("hsl(", ShortNumber(std::fmod(212 + 176 * way, 360), 0), " 70% 54%)");
}

std::string LineChart(const Axis& x, const Axis& y, const std::vector<Series>& series) {
  std::string svg = Begin(kHeight) + AxesOf(x, y);
  for (const Series& one : series) svg += LineOf(x, y, one);
  return svg + "</svg>";
}

std::string HeatMapChart(const HeatMap& map) {
  const double height = static_cast<double>(map.cells.size()) * kRowHeight + kTop + 28;
  std::string svg = Begin(height);
  for (size_t r = 0; r < map.cells.size(); ++r) {
    const std::vector<double>& row = map.cells[r];
    const double y = kTop + static_cast<double>(r) * kRowHeight;
    const double width = (kWidth - kLeft - kRight) / static_cast<double>(row.size());
    svg += Text(kLeft - 6, y + kRowHeight - 5, "end", map.row_labels[r]);
    for (size_t c = 0; c < row.size(); ++c) {
      svg += Rect(
          kLeft + static_cast<double>(c) * width, y, width, kRowHeight - 1,
          Str("class='cell' shape-rendering='crispEdges' fill-opacity='", ShortNumber(row[c], 3),
              "'><title>", HtmlEscaped(map.tips[r][c]), "</title></rect>"));
    }
  }
  return svg + Text((kLeft + kWidth - kRight) / 2, height - 6, "middle", map.column_label) +
         "</svg>";
}

std::string BarChart(const std::vector<BarPair>& bars) {
  constexpr double kNote = 150;  // room for the text at the right
  const double row = kRowHeight + kRowGap;
  const double room = kWidth - kLeft - kRight - kNote;
  double longest = 0.01;
  for (const BarPair& bar : bars) longest = std::max({longest, bar.inner, bar.outer});
  std::string svg = Begin(static_cast<double>(bars.size()) * row + 2 * kTop);
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = kTop + static_cast<double>(i) * row;
    svg += Text(kLeft - 6, y + kRowHeight - 5, "end", bars[i].label);
    svg += Rect(kLeft, y, bars[i].outer / longest * room, kRowHeight, "class='outer' rx='3'/>");
    svg += Rect(kLeft, y + 5, bars[i].inner / longest * room, kRowHeight - 10,
                "class='inner' rx='2'/>");
    svg +=
        Text(kLeft + bars[i].outer / longest * room + 8, y + kRowHeight - 5, "start", bars[i].note);
  }
  return svg + "</svg>";
}

}  // namespace thermocline::tools
