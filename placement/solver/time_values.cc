#include "placement/solver/time_values.h"

#include <algorithm>

namespace thermocline::placement {
namespace {

// m_d = constant + factor x.
struct Line {
  double constant = 0;
  double factor = 0;
};

// Of the colder device, from that of the hotter one beside it.
Line NextLine(const LayerTables& tables, const SplitPrices& prices, int block, int hot, int cold,
              const Line& of_hot) {
  const double w_hot = tables.block_seconds(hot)[block];
  const double w_cold = tables.block_seconds(cold)[block];
  if (w_cold <= 0) return of_hot;
  const double bytes = tables.block_bytes()[block];
  return {((prices.byte[hot] - prices.byte[cold]) * bytes +
           (prices.busy[hot] + of_hot.constant) * w_hot) /
                  w_cold -
              prices.busy[cold],
          of_hot.factor * w_hot / w_cold};
}

}  // namespace

std::vector<int> FromColdEnd(const LayerSplit& ranges) {
  std::vector<int> order;
  for (size_t d = 0; d < ranges.size(); ++d) {
    if (!ranges[d].empty()) order.push_back(static_cast<int>(d));
  }
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return ranges[a].begin > ranges[b].begin; });
  return order;
}

std::vector<double> TimeValues(const LayerTables& tables, const SplitPrices& prices,
                               const std::vector<int>& order, const LayerSplit& ranges,
                               double total) {
  std::vector<Line> lines(ranges.size());
  double constants = 0, factors = 0;
  int hotter = -1;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    if (ranges[*d].empty()) continue;
    lines[*d] = hotter < 0 ? Line{0, 1}
                           : NextLine(tables, prices, ranges[*d].begin, hotter, *d, lines[hotter]);
    constants += lines[*d].constant;
    factors += lines[*d].factor;
    hotter = *d;
  }
  const double x = factors > 0 ? std::max(0.0, (total - constants) / factors) : 0;
  std::vector<double> values(ranges.size(), 0.0);
  for (size_t d = 0; d < values.size(); ++d) {
    values[d] = std::max(0.0, lines[d].constant + lines[d].factor * x);
  }
  return values;
}

}  // namespace thermocline::placement
