#include "placement/weight_time.h"

#include <algorithm>

namespace thermocline::placement {
namespace {

bool IsOf(const WeightRate& rate, WeightUse use, DType dtype) {
  return rate.use == use && rate.dtype == dtype && rate.bytes_per_s.known();
}

}  // namespace

void WeightTimes::Sort(std::vector<Point>* points) {
  std::sort(points->begin(), points->end(),
            [](const Point& a, const Point& b) { return a.at < b.at; });
}

// On the line through the two points next to x; of one point, its value.
double WeightTimes::At(const std::vector<Point>& points, double x) {
  if (points.size() == 1) return points.front().seconds_per_byte;
  const auto above = std::find_if(points.begin() + 1, points.end() - 1,
                                  [x](const Point& point) { return point.at >= x; });
  const Point& high = *above;
  const Point& low = *(above - 1);
  const double along = (x - low.at) / (high.at - low.at);
  return low.seconds_per_byte + along * (high.seconds_per_byte - low.seconds_per_byte);
}

WeightTimes WeightTimes::Of(const WorkerProfile& worker, WeightUse use, DType dtype) {
  WeightTimes times;
  for (const WeightRate& rate : worker.weight_rates) {
    // Neurons that all are read are products with all rows.
    const bool is_whole_product =
        use == WeightUse::kNeurons && IsOf(rate, WeightUse::kMatMul, dtype);
    if (rate.n_tokens != 1 || !(IsOf(rate, use, dtype) || is_whole_product)) continue;
    times.reading_.push_back({rate.row_share, 1 / rate.bytes_per_s.value});
  }
  Sort(&times.reading_);
  const auto twice = [](const Point& a, const Point& b) { return a.at == b.at; };
  times.reading_.erase(std::unique(times.reading_.begin(), times.reading_.end(), twice),
                       times.reading_.end());
  times.further_.push_back({1, 0});
  for (const WeightRate& rate : worker.weight_rates) {
    if (!times.known() || rate.n_tokens == 1 || !IsOf(rate, use, dtype)) continue;
    const double more = 1 / rate.bytes_per_s.value - At(times.reading_, rate.row_share);
    times.further_.push_back({static_cast<double>(rate.n_tokens), std::max(0.0, more)});
  }
  Sort(&times.further_);
  times.further_.erase(std::unique(times.further_.begin(), times.further_.end(), twice),
                       times.further_.end());
  return times;
}

double WeightTimes::SecondsPerByte(double share, double n_tokens) const {
  const double reading = At(reading_, std::clamp(share, reading_.front().at, reading_.back().at));
  return reading + std::max(0.0, At(further_, std::max(1.0, n_tokens)));
}

WeightTimeTable::WeightTimeTable(const WorkerProfile& worker) {
  for (int use = 0; use < kNumWeightUses; ++use) {
    for (int dtype = 0; dtype < kNumDTypes; ++dtype) {
      times_[static_cast<size_t>(use)][static_cast<size_t>(dtype)] =
          WeightTimes::Of(worker, static_cast<WeightUse>(use), static_cast<DType>(dtype));
    }
  }
}

}  // namespace thermocline::placement
