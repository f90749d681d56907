// How long weights of a type that come from memory take to go through an op, from what a worker has
// measured of a few cases.
#pragma once

#include <array>
#include <vector>

#include "base/dtype.h"
#include "placement/profile.h"

namespace thermocline::placement {

// Seconds per byte of the rows that are read: reading them for one token, which is dearer where
// they lie here and there, and what further tokens of the step add. Reading and computing overlap:
// what the first token computes is in the measured rate, what others compute is not hidden, for the
// reading hides no more than it did.
class WeightTimes {
 public:
  // Of one op on one type: the rates that are known.
  static WeightTimes Of(const WorkerProfile& worker, WeightUse use, DType dtype);

  bool known() const { return !reading_.empty(); }
  // `share` of the rows are read in a step of `n_tokens` tokens, 1 or more. Between measured cases
  // times change linearly; shares below the smallest cost as much as that; more tokens than were
  // measured go on as the last two cases did.
  double SecondsPerByte(double share, double n_tokens) const;
  // The largest number of tokens that was measured.
  double max_tokens() const { return further_.back().at; }

 private:
  struct Point {
    double at = 0;
    double seconds_per_byte = 0;
  };
  static void Sort(std::vector<Point>* points);
  static double At(const std::vector<Point>& points, double x);

  std::vector<Point> reading_;  // for one token, by share
  // By tokens, the first of which is one: beyond the time of one token.
  std::vector<Point> further_;
};

// Of every op and type.
class WeightTimeTable {
 public:
  explicit WeightTimeTable(const WorkerProfile& worker);
  const WeightTimes& Of(WeightUse use, DType dtype) const {
    return times_[static_cast<size_t>(use)][static_cast<size_t>(dtype)];
  }

 private:
  std::array<std::array<WeightTimes, kNumDTypes>, kNumWeightUses> times_;
};

}  // namespace thermocline::placement
