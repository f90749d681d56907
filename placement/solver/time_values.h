// What a second more on each device would be worth to a split of a layer.
#pragma once

#include <vector>

#include "placement/solver/layer_tables.h"

namespace thermocline::placement {

// Multipliers m_d of "device d ends by T", of those that have a range. Neighbours share a block
// that costs both the same at the optimum,
//   byte_c b + (busy_c + m_c) w_c = byte_h b + (busy_h + m_h) w_h,
// which leaves one degree of freedom: it is taken so that they add up to `total`. Where ranges lie
// otherwise than by `order` (devices from the cold end) the values are only a guess.
std::vector<double> TimeValues(const LayerTables& tables, const SplitPrices& prices,
                               const std::vector<int>& order, const LayerSplit& ranges,
                               double total);

// Devices with a range, from the cold end.
std::vector<int> FromColdEnd(const LayerSplit& ranges);

}  // namespace thermocline::placement
