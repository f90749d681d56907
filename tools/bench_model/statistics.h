// What the repetitions of a measurement say together.
#pragma once

#include <utility>
#include <vector>

namespace thermocline::tools {

// All 0 for no values.
struct Spread {
  double mean = 0;
  double deviation = 0;  // of a sample (n - 1); 0 for a single value
  double median = 0;     // the mean of the two in the middle for an even number
  double min = 0;
  double max = 0;
};

Spread SpreadOf(std::vector<double> values);
inline double MedianOf(std::vector<double> values) { return SpreadOf(std::move(values)).median; }

}  // namespace thermocline::tools
