// The exact split of layers over workers in their order: a dynamic programme, no heuristics.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/weights.h"
#include "placement/model_bytes.h"

namespace thermocline::placement {

// One worker as the partition sees it.
struct StageRoom {
  double bytes_per_s = 1;  // > 0
  uint64_t bytes = 0;      // for weights, re-laid rows and KV
};

// The layers of one worker; begin == end: it stays spare.
using Partition = std::vector<model::LayerRange>;

// Memory that a stage of `layers` takes besides overhead.
uint64_t StageBytes(const ModelBytes& model, const model::LayerRange& layers,
                    uint64_t kv_bytes_per_layer);

// Among all contiguous splits whose stages fit their rooms: the least maximum of streamed bytes
// over bandwidth; among those the most stages (room for KV), then the least sum of squared stage
// times (balance), then the earliest cuts. nullopt when no split fits. O(n_layer^2 * workers).
std::optional<Partition> PartitionLayers(const ModelBytes& model,
                                         const std::vector<StageRoom>& workers,
                                         uint64_t kv_bytes_per_layer);

}  // namespace thermocline::placement
