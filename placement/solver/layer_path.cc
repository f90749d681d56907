#include "placement/solver/layer_path.h"

#include <algorithm>

#include "placement/solver/layer_fill.h"

namespace thermocline::placement {
namespace {

// The share of `latency` that devices after one in the lead's order carry, on average.
constexpr double kDelayed = 0.5;

class Path {
 public:
  Path(const LayerTables& tables, const SplitPrices& prices, const std::vector<double>& room)
      : tables_(tables), prices_(prices), room_(room), n_(tables.n_blocks()) {
    cost_.assign(n_ + 1, kNever);
    cost_[n_] = 0;
  }

  void Add(int d, double seconds) {
    // A send delays those sent to later, whose time is worth a part of `latency`.
    const double open =
        tables_.OpenPrice(prices_, d) + kDelayed * prices_.latency * tables_.device(d).send_s;
    const std::vector<double>& work = tables_.layer().seconds[d];
    const std::vector<double>& bytes = tables_.prefix_bytes();
    const double room = room_.empty() ? kNever : room_[d];
    const auto prefix = [&](int k) {
      return prices_.byte[d] * bytes[k] + prices_.busy[d] * work[k];
    };
    std::vector<double> next = cost_;
    std::vector<int>& from = from_.emplace_back(n_ + 1, -1);
    device_.push_back(d);
    // Ends j that k may reach, by rising cost_[j] + prefix(j) from the front; j falls with k.
    queue_.resize(n_ + 1);
    values_.resize(n_ + 1);
    int head = 0, tail = 0;
    int entering = n_;
    for (int k = n_ - 1; k >= 0; --k) {
      for (const int least = tables_.LeastEnd(d, k); entering >= least; --entering) {
        if (cost_[entering] == kNever) continue;
        const double value = cost_[entering] + prefix(entering);
        while (tail > head && values_[tail - 1] >= value) --tail;
        queue_[tail] = entering;
        values_[tail++] = value;
      }
      while (tail > head &&
             (work[queue_[head]] - work[k] > seconds || bytes[queue_[head]] - bytes[k] > room)) {
        ++head;
      }
      if (tail == head) continue;
      const double candidate = values_[head] - prefix(k) + open;
      if (candidate < next[k]) {
        next[k] = candidate;
        from[k] = queue_[head];
      }
    }
    cost_.swap(next);
  }

  std::optional<LayerSplit> Trace() const {
    if (cost_[0] == kNever) return std::nullopt;
    LayerSplit ranges(tables_.n_devices());
    int begin = 0;
    for (size_t step = device_.size(); step > 0; --step) {
      const int end = from_[step - 1][begin];
      if (end < 0) continue;
      ranges[device_[step - 1]] = {begin, end};
      begin = end;
    }
    return ranges;
  }

 private:
  const LayerTables& tables_;
  const SplitPrices& prices_;
  const std::vector<double>& room_;
  const int n_;
  std::vector<double> cost_;
  std::vector<std::vector<int>> from_;  // by step: the end of the interval that begins there
  std::vector<int> device_;             // by step
  std::vector<int> queue_;
  std::vector<double> values_;
};

}  // namespace

std::optional<LayerSplit> CheapestPath(const LayerTables& tables, const SplitPrices& prices,
                                       const std::vector<double>& starts, double T,
                                       const std::vector<double>& room) {
  const LayerFill order(tables, prices, starts);
  Path path(tables, prices, room);
  for (const int d : order.order()) {
    if (starts[d] < T || T == kNever) path.Add(d, T == kNever ? kNever : T - starts[d]);
  }
  return path.Trace();
}

}  // namespace thermocline::placement
