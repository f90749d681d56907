// What plans to look for: a plan is worth what streams get of it in batches of its own, while a
// search knows one size of batch and one weight of latency.
#pragma once

#include <cstdint>
#include <vector>

#include "placement/batch_costs.h"

namespace thermocline::placement {

struct SearchAim {
  int64_t n_sequences = 1;
  double latency = 1;  // its weight, against the busiest worker's time
};

// Few: one for the latency of a stream alone, then for 1, 2, 4 ... batches under way.
std::vector<SearchAim> AimsOf(BatchCosts& costs);

// Batches that the streams may be in: how many there are of so many sequences each.
struct Batching {
  int64_t n_sequences = 1;
  int64_t n_batches = 1;
};
// Of any plan for so many workers, the largest batches first.
std::vector<Batching> BatchingsOf(int64_t n_streams, size_t n_workers);

}  // namespace thermocline::placement
