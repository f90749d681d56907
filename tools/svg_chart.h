// Charts as inline SVG: lines over two axes, a heat map, pairs of bars. Colours of text, grid and
// surfaces are CSS variables of the page around them, so that one chart serves light and dark.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace thermocline::tools {

// `text` with the characters that HTML gives a meaning replaced.
std::string HtmlEscaped(std::string_view text);

// A number with at most `digits` after the point, without trailing zeros.
std::string ShortNumber(double value, int digits);

// The colour of item `i` of `n` on a scale from cold to hot.
std::string ScaleColour(size_t i, size_t n);

struct Axis {
  std::string label;
  double min = 0;
  double max = 1;
  bool is_log = false;                                // both ends are then positive
  std::vector<std::pair<double, std::string>> ticks;  // where, and what stands there
};

struct Series {
  std::string name;  // shown when the pointer rests on the line
  std::string colour;
  std::vector<std::pair<double, double>> points;
  bool has_markers = false;
};

// One line per series; points outside the axes are moved to their edge.
std::string LineChart(const Axis& x, const Axis& y, const std::vector<Series>& series);

struct HeatMap {
  std::string column_label;
  std::vector<std::string> row_labels;
  // By row: 0 is cold, 1 as hot as it gets.
  std::vector<std::vector<double>> cells;
  std::vector<std::vector<std::string>> tips;  // the same shape
};
std::string HeatMapChart(const HeatMap& map);

struct BarPair {
  std::string label;  // at the left
  double inner = 0;   // 0 to 1; drawn over
  double outer = 0;   // this
  std::string note;   // at the right
};
std::string BarChart(const std::vector<BarPair>& bars);

}  // namespace thermocline::tools
