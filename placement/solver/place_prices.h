// Prices at which bounds of all plans are high: of devices' memory, of their one place each, and of
// their time.
#pragma once

#include <atomic>
#include <vector>

#include "base/thread_pool.h"
#include "placement/solver/layer_tables.h"
#include "placement/solver/led_layers.h"
#include "placement/solver/split_cost.h"

namespace thermocline::placement {

// By device, alike ones the same; all >= 0. A device has one place: it leads one stage or helps in
// one. Whoever takes part in a layer pays that layer's share of the place.
struct PlacePrices {
  double latency = 1;        // of a second of a layer
  std::vector<double> byte;  // of a byte of memory
  std::vector<double> place;
  std::vector<double> busy;  // of a second at work

  // As a layer of a stage of so many layers under `lead` pays them (LedLayers::Group). A helper's
  // messages take memory of its lead, of which its part has the layer's share.
  SplitPrices Of(const LedLayers& layers, int lead, int n_stage) const;
  // What that layer costs besides: its lead's place, and what it takes of its memory.
  double LeadPrice(const LedLayers& layers, int layer, int lead, int n_stage) const;
  // What all memory and all places are worth.
  double Paid(const LedLayers& layers) const;
};

// Any prices make a right bound. These are from column generation on a few layers, each standing
// for its part of all: a column is a stage's length, a lead and a split of a layer; what they take
// of devices' memory, places and time is limited. `kinds`: LedLayers::FirstOfLayerKinds; `lengths`
// rise. A set `stop` ends it soon.
PlacePrices FindPlacePrices(const LedLayers& layers, SplitObjective objective,
                            const std::vector<int>& kinds, const std::vector<int>& lengths,
                            ThreadPool& pool, const std::atomic<bool>* stop);

}  // namespace thermocline::placement
