// A lower bound on every plan of a model on a cluster, from what each layer costs at least under
// any lead.
#pragma once

#include <atomic>

#include "placement/solver/stage_search.h"

namespace thermocline::placement {

// A plan's stages have memory and places of devices in common, which are priced (PlacePrices). Of a
// layer in a stage of K layers counts the least certificate (LayerBound) under any lead that has
// memory to lead so many, with what it takes of its lead's memory and with the 1/K of the places of
// whoever takes part; of all cuts into stages the least sum. Those certificates are asked for a few
// K only: at fixed prices a layer's cost is a minimum of lines in 1/K, so between two of them it is
// no less than the line through both.
// Latency counts. 0 when there is no such bound, and where `stop` is set meanwhile.
double LeadsBound(const StageModel& model, SplitObjective objective,
                  const std::atomic<bool>* stop = nullptr);

}  // namespace thermocline::placement
