#include "placement/solver/layer_bound.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

#include "placement/solver/layer_fill.h"

namespace thermocline::placement {
namespace {

constexpr double kNear = 1e-4;       // of the upper bound: what more segments could gain at most
constexpr int kMaxSegments = 64;     // of one layer
constexpr double kRounding = 1e-11;  // of the bound, taken off for the rounding of its sums

// T_l - fixed lies in [from, to]; then the layer costs at least `bound`.
struct Segment {
  double from = 0;
  double to = 0;
  double bound = 0;
  double best_T = 0;  // where to cut
  bool operator<(const Segment& other) const { return bound > other.bound; }
};

// For multipliers m_d >= 0 of "device d ends by T" any split with T in [from, to] costs at least
//   h(T) = latency T + min over members P [ sum over P of open_d - m_d (T - tail_d - C_d) ]
//          + sum over blocks i of min over devices d of byte_d b_i + (busy_d + m_d) w_di
// where C_d is the end of d's send in the best order of P's sends. h is a minimum of functions
// linear in T, hence concave: its least value on a segment is at an end.
class Bound {
 public:
  Bound(const LayerTables& tables, const SplitPrices& prices) : tables_(tables), prices_(prices) {
    for (int d = 0; d < tables.n_devices(); ++d) {
      starts_.push_back(tables.start(d));
      open_.push_back(tables.OpenPrice(prices, d));
    }
  }

  double WithoutTime() {
    std::vector<double> m(tables_.n_devices(), 0.0);
    for (int d = 0; d < tables_.n_devices(); ++d) {
      // A member pays open_d for at most its seconds for all blocks.
      const double all = tables_.layer().seconds[d].back();
      if (all > 0) m[d] = open_[d] / all;
    }
    return BlocksMin(m, kNever);
  }

  double WithTime(double upper) {
    std::priority_queue<Segment> segments;
    const double last = upper / prices_.latency;
    std::vector<double> cuts = {0, last};
    for (const double start : starts_) {
      if (start > 0 && start < last) cuts.push_back(start);
    }
    std::sort(cuts.begin(), cuts.end());
    for (size_t s = 0; s + 1 < cuts.size(); ++s) {
      if (cuts[s] < cuts[s + 1]) segments.push(Evaluate(cuts[s], cuts[s + 1]));
    }
    for (int n = 0; n < kMaxSegments && !segments.empty(); ++n) {
      const Segment worst = segments.top();
      if (worst.bound >= upper * (1 - kNear)) break;
      segments.pop();
      const double cut = CutOf(worst);
      segments.push(Evaluate(worst.from, cut));
      segments.push(Evaluate(cut, worst.to));
    }
    return segments.empty() ? upper : std::min(upper, segments.top().bound);
  }

 private:
  static double CutOf(const Segment& segment) {
    const double width = segment.to - segment.from;
    return std::clamp(segment.best_T, segment.from + 0.1 * width, segment.to - 0.1 * width);
  }

  // Tries a few families of multipliers; each is valid, the largest bound counts.
  Segment Evaluate(double from, double to) {
    Segment segment{from, to, prices_.latency * from, 0.5 * (from + to)};
    std::vector<double> starts = starts_;
    for (double& start : starts) {
      if (start >= to) start = kNever;
    }
    LayerFill fill(tables_, prices_, starts);
    double T = fill.Search(from, to).T;
    const bool possible = T != kNever;
    if (!possible) T = to;
    segment.best_T = T;
    fill.CostAt(T);
    // All done by T is worth `latency` in all at the best T, more before it.
    static constexpr double kPossible[] = {1, 1.5, 0.6};
    static constexpr double kImpossible[] = {2, 8, 32, 256};
    const auto offer = [&](double total) {
      const std::vector<double> m = Multipliers(fill, total * prices_.latency, to);
      const double blocks = BlocksMin(m, to);
      const double at_ends = std::min(Members(m, from), Members(m, to));
      segment.bound = std::max(segment.bound, blocks + at_ends);
    };
    if (possible) {
      for (const double total : kPossible) offer(total);
    } else {
      for (const double total : kImpossible) offer(total);
    }
    return segment;
  }

  // From the cold end, neighbours in the fill share a block where both cost the same:
  //   byte_c b + (busy_c + m_c) w_c = byte_h b + (busy_h + m_h) w_h,
  // which leaves one degree of freedom, taken to make the sum `total`.
  std::vector<double> Multipliers(const LayerFill& fill, double total, double to) const {
    std::vector<int> members;  // from the hot end
    for (auto d = fill.order().rbegin(); d != fill.order().rend(); ++d) {
      if (!fill.ranges()[*d].empty()) members.push_back(*d);
    }
    const int n = tables_.n_devices();
    std::vector<double> constant(n, 0.0), factor(n, 0.0), m(n, 0.0);
    double constants = 0, factors = 0;
    for (size_t j = 0; j < members.size(); ++j) {
      const int c = members[j];
      if (j == 0) {
        factor[c] = 1;
      } else {
        Link(fill.ranges()[c].begin, members[j - 1], c, constant, factor);
      }
      constants += constant[c];
      factors += factor[c];
    }
    const double x = factors > 0 ? std::max(0.0, (total - constants) / factors) : 0;
    for (int d = 0; d < n; ++d) {
      m[d] = std::max(0.0, constant[d] + factor[d] * x);
      // Below this, taking part costs nothing net: the blocks' price can rise for free.
      if (starts_[d] < to) m[d] = std::max(m[d], open_[d] / (to - starts_[d]));
    }
    return m;
  }

  void Link(int block, int hot, int cold, std::vector<double>& constant,
            std::vector<double>& factor) const {
    const double w_hot = tables_.block_seconds(hot)[block];
    const double w_cold = tables_.block_seconds(cold)[block];
    if (w_cold <= 0) {
      constant[cold] = constant[hot];
      factor[cold] = factor[hot];
      return;
    }
    const double b = tables_.block_bytes()[block];
    constant[cold] = ((prices_.byte[hot] - prices_.byte[cold]) * b +
                      (prices_.busy[hot] + constant[hot]) * w_hot) /
                         w_cold -
                     prices_.busy[cold];
    factor[cold] = factor[hot] * w_hot / w_cold;
  }

  // Sum over blocks of the least price, over devices that may start before `to`.
  double BlocksMin(const std::vector<double>& m, double to) {
    least_.assign(tables_.n_blocks(), kNever);
    const std::vector<double>& bytes = tables_.block_bytes();
    for (int d = 0; d < tables_.n_devices(); ++d) {
      if (starts_[d] > to || !tables_.usable(d)) continue;
      const double byte = prices_.byte[d], second = prices_.busy[d] + m[d];
      const std::vector<double>& seconds = tables_.block_seconds(d);
      for (size_t i = 0; i < least_.size(); ++i) {
        least_[i] = std::min(least_[i], byte * bytes[i] + second * seconds[i]);
      }
    }
    return std::accumulate(least_.begin(), least_.end(), 0.0);
  }

  // latency T + the least price of a set of members at T.
  double Members(const std::vector<double>& m, double T) const {
    const double lead = open_[0] - m[0] * (T - starts_[0]);
    return prices_.latency * T + std::min(0.0, lead) + Others(m, T);
  }

  // The least over sets P of sum open_d - m_d (T - tail_d - C_d): the order of sends that is best
  // for a sum of m_d C_d has m_d / send_d falling (Smith's rule), so members are decided in that
  // order, the state being what the lead has sent so far, in units and rounded down.
  double Others(const std::vector<double>& m, double T) const {
    std::vector<int> order;
    for (int d = 1; d < tables_.n_devices(); ++d) {
      if (starts_[d] <= T && tables_.usable(d) && m[d] > 0) order.push_back(d);
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return m[a] * tables_.device(b).send_s > m[b] * tables_.device(a).send_s;
    });
    const double unit = Unit(order);
    std::vector<double> least = {0.0};  // by units sent
    for (const int d : order) {
      const double send = tables_.device(d).send_s;
      const int units = unit > 0 ? static_cast<int>(std::floor(send / unit)) : 0;
      std::vector<double> next(least.size() + units, kNever);
      for (size_t u = 0; u < least.size(); ++u) {
        const double price = open_[d] - m[d] * (T - starts_[d] - u * unit);
        next[u] = std::min(next[u], least[u]);
        next[u + units] = std::min(next[u + units], least[u] + price);
      }
      least.swap(next);
    }
    return *std::min_element(least.begin(), least.end());
  }

  // Of sends: their size when they are equal, else a sixteenth of the largest.
  double Unit(const std::vector<int>& order) const {
    double smallest = kNever, largest = 0;
    for (const int d : order) {
      smallest = std::min(smallest, tables_.device(d).send_s);
      largest = std::max(largest, tables_.device(d).send_s);
    }
    return smallest == largest ? largest : largest / 16;
  }

  const LayerTables& tables_;
  const SplitPrices& prices_;
  std::vector<double> starts_;
  std::vector<double> open_;
  std::vector<double> least_;
};

}  // namespace

double LayerBound(const LayerTables& tables, const SplitPrices& prices, double upper) {
  const double fixed = tables.FixedPrice(prices);
  Bound bound(tables, prices);
  double least = prices.latency > 0 ? bound.WithTime(upper - fixed) : bound.WithoutTime();
  least = std::min(least, upper - fixed);
  return fixed + least - kRounding * std::abs(upper);
}

}  // namespace thermocline::placement
