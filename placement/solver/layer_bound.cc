#include "placement/solver/layer_bound.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <utility>
#include <vector>

#include "placement/solver/layer_fill.h"
#include "placement/solver/split_cost.h"
#include "placement/solver/time_values.h"

namespace thermocline::placement {
namespace {

constexpr double kNear = 1e-4;  // of the upper bound: what more segments could gain at most
// Of one layer, beyond the first cuts. Where memory is tight twice as many gain 9 % of the gap for
// twice the time, four times as many 13 % for more than three times (docs/placement.md,
// "Measured").
constexpr int kMaxSegments = 10;
constexpr double kShortest = 3e-3;   // of the time that counts: the least of a first segment
constexpr double kRounding = 1e-11;  // of the bound, taken off for the rounding of its sums
// When T may be longer than this before it costs what is known to do, its weight is next to
// nothing, and so is what a bound would gain from it.
constexpr double kMostSeconds = 1e3 * kMaxSplitSeconds;

// T_l - fixed lies in [from, to); then the layer costs at least `bound`.
struct Segment {
  double from = 0;
  double to = 0;
  double bound = 0;
  double best_T = 0;      // where to cut
  std::vector<double> m;  // the multipliers that gave the bound
  bool operator<(const Segment& other) const { return bound > other.bound; }
};

// For multipliers m_d >= 0 of "device d ends by T" any split with T in [from, to) costs at least
//   h(T) = latency T + min over members P [ sum over P of open_d - m_d (T - tail_d - C_d) ]
//          + sum over blocks i of min over devices d of byte_d b_i + (busy_d + m_d) w_di
// where C_d is the end of d's send in the best order of P's sends, and for the lead what these
// sends keep it busy. h is a minimum of functions
// linear in T, hence concave: its least value on a segment is at an end.
class Bound {
 public:
  Bound(const LayerTables& tables, const SplitPrices& prices) : tables_(tables), prices_(prices) {
    for (int d = 0; d < tables.n_devices(); ++d) {
      starts_.push_back(tables.start(d));
      open_.push_back(tables.OpenPrice(prices, d));
      sends_busy_ |= tables.device(d).send_busy_s > 0;
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

  // `upper`: what `known` costs; `enough`: what a segment needs no more than.
  double WithTime(double upper, double enough, const LayerSplit& known) {
    enough_ = std::min(enough, upper * (1 - kNear));
    const std::vector<double> values =
        TimeValues(tables_, prices_, FromColdEnd(known), known, prices_.latency);
    std::priority_queue<Segment> segments;
    const double last = upper / prices_.latency;
    std::vector<double> cuts = {0, last};
    for (const double start : starts_) {
      if (start > 0 && start < last) cuts.push_back(start);
    }
    // Bounds lie where the best time does, about which they need short segments: a few parts of a
    // hundred long where the known split is nearly the best, longer ones where it is not. Without
    // them a bound was 4.5 % lower after as long a time (docs/placement.md).
    const double seconds = FfnSeconds(tables_.problem(), tables_.layer(), known);
    static constexpr double kAround[] = {0.8, 0.9, 0.97, 1.03, 1.1, 1.25};
    for (const double share : kAround) {
      if (share * seconds < last) cuts.push_back(share * seconds);
    }
    std::sort(cuts.begin(), cuts.end());
    double from = 0;
    for (const double cut : cuts) {
      if (cut < last && (cut < from + kShortest * last || cut > (1 - kShortest) * last)) continue;
      if (cut > from) segments.push(Evaluate(from, cut, upper, values));
      from = cut;
    }
    for (int n = 0; n < kMaxSegments && !segments.empty(); ++n) {
      const Segment worst = segments.top();
      if (worst.bound >= enough_) break;
      segments.pop();
      const double cut = CutOf(worst);
      segments.push(Evaluate(worst.from, cut, upper, worst.m));
      segments.push(Evaluate(cut, worst.to, upper, worst.m));
    }
    return segments.empty() ? upper : std::min(upper, segments.top().bound);
  }

 private:
  static double CutOf(const Segment& segment) {
    const double width = segment.to - segment.from;
    return std::clamp(segment.best_T, segment.from + 0.3 * width, segment.to - 0.3 * width);
  }

  // Tries a few families of multipliers and climbs from the best; each is valid, the largest bound
  // counts.
  Segment Evaluate(double from, double to, double upper, const std::vector<double>& likely) {
    Segment segment{from, to, prices_.latency * from, 0.5 * (from + to), {}};
    segment.m.assign(tables_.n_devices(), 0.0);
    Offer(likely, segment);
    if (segment.bound >= enough_) return segment;
    std::vector<double> starts = starts_;
    for (double& start : starts) {
      if (start >= to) start = kNever;
    }
    TryFill(starts, segment);
    Queue(starts, to);
    TryFill(starts, segment);
    Climb(upper, segment);
    return segment;
  }

  void Offer(const std::vector<double>& m, Segment& segment) {
    const double bound =
        BlocksMin(m, segment.to) + std::min(Members(m, segment.from), Members(m, segment.to));
    if (!(bound > segment.bound)) return;
    segment.bound = bound;
    segment.m = m;
  }

  void TryFill(const std::vector<double>& starts, Segment& segment) {
    LayerFill fill(tables_, prices_, starts);
    double T = fill.Search(segment.from, segment.to).T;
    // All done by T is worth `latency` in all at the best T, more before it.
    static constexpr double kPossible[] = {1, 1.5, 0.6};
    static constexpr double kImpossible[] = {2, 8, 32, 256};
    const bool possible = T != kNever;
    if (!possible) T = segment.to;
    segment.best_T = T;
    fill.CostAt(T);
    if (possible) {
      for (const double total : kPossible) OfferFamily(fill, total, segment);
    } else {
      for (const double total : kImpossible) OfferFamily(fill, total, segment);
    }
  }

  void OfferFamily(const LayerFill& fill, double total, Segment& segment) {
    std::vector<double> m = Multipliers(fill, total, segment.to);
    Offer(m, segment);
    if (PriceOut(fill, segment.to, m)) Offer(m, segment);
  }

  // Makes those whom the fill gives nothing no cheaper on any block than those whom it gives some.
  bool PriceOut(const LayerFill& fill, double to, std::vector<double>& m) {
    std::vector<int> members, idle;
    for (const int d : fill.order()) {
      if (starts_[d] < to) (fill.ranges()[d].empty() ? idle : members).push_back(d);
    }
    if (idle.empty() || members.empty()) return false;
    const auto price = [&](int d, int k) {
      return prices_.byte[d] * tables_.block_bytes()[k] +
             (prices_.busy[d] + m[d]) * tables_.block_seconds(d)[k];
    };
    for (int k = 0; k < tables_.n_blocks(); ++k) {
      double least = kNever;
      for (const int d : members) least = std::min(least, price(d, k));
      for (const int d : idle) {
        const double seconds = tables_.block_seconds(d)[k];
        const double short_of = least - price(d, k);
        if (short_of > 0 && seconds > 0) m[d] += short_of / seconds;
      }
    }
    return true;
  }

  // Starts when all that may take part do, the fastest first.
  void Queue(std::vector<double>& starts, double to) const {
    std::vector<int> order;
    for (int d = 1; d < tables_.n_devices(); ++d) {
      if (starts[d] < to && tables_.usable(d)) order.push_back(d);
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return tables_.layer().seconds[a].back() < tables_.layer().seconds[b].back();
    });
    double sent = 0;
    for (const int d : order) {
      starts[d] += sent;
      sent += tables_.device(d).send_s;
      if (starts[0] != kNever) starts[0] += tables_.device(d).send_busy_s;
    }
  }

  // Supergradient steps of Polyak's length towards `upper`, multipliers scaled by the seconds of
  // the whole layer so that devices of any speed move alike.
  void Climb(double upper, Segment& segment) {
    constexpr int kSteps = 3;  // eight give 0.4 % more for half the time again
    std::vector<double> m = segment.m, slope(m.size());
    double length = 0.7;
    for (int step = 0; step < kSteps && segment.bound < enough_; ++step) {
      const double value = Slope(m, segment, slope);
      double squares = 0;
      for (size_t d = 0; d < m.size(); ++d) {
        const double all = tables_.layer().seconds[d].back();
        slope[d] = all > 0 ? slope[d] / all : 0;
        if (m[d] <= 0) slope[d] = std::max(slope[d], 0.0);
        squares += slope[d] * slope[d];
      }
      if (squares <= 0) break;
      const double size = length * (upper - value) / squares;
      for (size_t d = 0; d < m.size(); ++d) {
        const double all = tables_.layer().seconds[d].back();
        if (all > 0) m[d] = std::max(0.0, m[d] + size * slope[d] / all);
      }
      const double before = segment.bound;
      Offer(m, segment);
      if (segment.bound > before) continue;
      length *= 0.6;
      m = segment.m;
    }
  }

  // The bound at m and a supergradient: what each device is given less what it could do.
  double Slope(const std::vector<double>& m, const Segment& segment, std::vector<double>& slope) {
    double value = BlocksMin(m, segment.to);
    std::fill(slope.begin(), slope.end(), 0.0);
    for (int k = 0; k < tables_.n_blocks(); ++k) {
      double least = kNever;
      int taker = 0;
      for (int d = 0; d < tables_.n_devices(); ++d) {
        if (starts_[d] >= segment.to || !tables_.usable(d)) continue;
        const double price = prices_.byte[d] * tables_.block_bytes()[k] +
                             (prices_.busy[d] + m[d]) * tables_.block_seconds(d)[k];
        if (price < least) least = price, taker = d;
      }
      slope[taker] += tables_.block_seconds(taker)[k];
    }
    const double at_from = Members(m, segment.from), at_to = Members(m, segment.to);
    const double T = at_from < at_to ? segment.from : segment.to;
    value += Members(m, T, &slope);
    return value;
  }

  std::vector<double> Multipliers(const LayerFill& fill, double total, double to) const {
    std::vector<double> m =
        TimeValues(tables_, prices_, fill.order(), fill.ranges(), total * prices_.latency);
    for (size_t d = 0; d < m.size(); ++d) {
      // Below this, taking part costs nothing net: the blocks' price can rise for free.
      if (starts_[d] < to) m[d] = std::max(m[d], open_[d] / (to - starts_[d]));
    }
    return m;
  }

  // Sum over blocks of the least price, over devices that may start before `to`.
  double BlocksMin(const std::vector<double>& m, double to) {
    least_.assign(tables_.n_blocks(), kNever);
    const std::vector<double>& bytes = tables_.block_bytes();
    for (int d = 0; d < tables_.n_devices(); ++d) {
      if (starts_[d] >= to || !tables_.usable(d)) continue;
      const double byte = prices_.byte[d], second = prices_.busy[d] + m[d];
      const std::vector<double>& seconds = tables_.block_seconds(d);
      for (size_t i = 0; i < least_.size(); ++i) {
        least_[i] = std::min(least_[i], byte * bytes[i] + second * seconds[i]);
      }
    }
    return std::accumulate(least_.begin(), least_.end(), 0.0);
  }

  // latency T + the least price of a set of members at T; takes what they could do from `slope`.
  double Members(const std::vector<double>& m, double T, std::vector<double>* slope = nullptr) {
    const double lead = open_[0] - m[0] * (T - starts_[0]);
    const double without = Others(m, T, 0, nullptr);
    const double with_lead = lead + (sends_busy_ ? Others(m, T, m[0], nullptr) : without);
    if (slope && with_lead < without) {
      (*slope)[0] -= T - starts_[0];
      Others(m, T, m[0], slope);
    } else if (slope) {
      Others(m, T, 0, slope);
    }
    return prices_.latency * T + std::min(with_lead, without);
  }

  // The least over sets P of sum open_d - m_d (T - tail_d - C_d): the order of sends that is best
  // for a sum of m_d C_d has m_d / send_d falling (Smith's rule), so members are decided in that
  // order, the state being what the lead has sent so far, in units and rounded down. A second of
  // the lead that a send takes costs `lead_value`.
  double Others(const std::vector<double>& m, double T, double lead_value,
                std::vector<double>* slope) {
    std::vector<int> order;
    for (int d = 1; d < tables_.n_devices(); ++d) {
      if (starts_[d] <= T && tables_.usable(d) && m[d] > 0) order.push_back(d);
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return m[a] * tables_.device(b).send_s > m[b] * tables_.device(a).send_s;
    });
    const double unit = Unit(order);
    std::vector<std::vector<double>> least = {{0.0}};  // by device decided, by units sent
    std::vector<int> units;
    for (const int d : order) {
      const double send = tables_.device(d).send_s;
      const int n = unit > 0 ? static_cast<int>(std::floor(send / unit)) : 0;
      const double open = open_[d] + lead_value * tables_.device(d).send_busy_s;
      const std::vector<double>& before = least.back();
      std::vector<double> next(before.size() + n, kNever);
      for (size_t u = 0; u < before.size(); ++u) {
        const double price = open - m[d] * (T - starts_[d] - u * unit);
        next[u] = std::min(next[u], before[u]);
        next[u + n] = std::min(next[u + n], before[u] + price);
      }
      units.push_back(n);
      least.push_back(std::move(next));
    }
    const auto best = std::min_element(least.back().begin(), least.back().end());
    size_t u = static_cast<size_t>(best - least.back().begin());
    const double price = *best;
    if (!slope) return price;
    for (size_t j = order.size(); j > 0; --j) {
      const std::vector<double>& before = least[j - 1];
      if (u < before.size() && before[u] == least[j][u]) continue;  // not a member
      u -= units[j - 1];
      (*slope)[order[j - 1]] -= T - starts_[order[j - 1]] - static_cast<double>(u) * unit;
      if (lead_value > 0) (*slope)[0] += tables_.device(order[j - 1]).send_busy_s;
    }
    return price;
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
  double enough_ = 0;        // of a segment's bound
  bool sends_busy_ = false;  // any send keeps the lead from its own part
  std::vector<double> least_;
};

}  // namespace

double LayerBound(const LayerTables& tables, const SplitPrices& prices, const LayerSplit& known,
                  double enough) {
  const double upper = tables.Price(prices, known);
  const double fixed = tables.FixedPrice(prices);
  Bound bound(tables, prices);
  const double most = upper - fixed;
  const bool timed = prices.latency > 0 && most / prices.latency <= kMostSeconds;
  const double rounding = kRounding * std::abs(upper);
  const double least =
      timed ? bound.WithTime(most, enough - fixed + rounding, known) : bound.WithoutTime();
  return fixed + std::min(least, most) - rounding;
}

}  // namespace thermocline::placement
