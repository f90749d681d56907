// The median of what a bench measures.
#pragma once

#include <algorithm>
#include <vector>

namespace thermocline::bench {

// The upper one of two in the middle; one value at least.
inline double MedianOf(std::vector<double> values) {
  const auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace thermocline::bench
