// Where the values of a graph live while it runs: slots of one scratch region, each used again once
// the value in it has been read for the last time. Workers allocate it, the planner counts it.
#pragma once

#include <cstdint>
#include <vector>

#include "model/graph.h"

namespace thermocline::model {

// `n_cols` floats per row of the batch, from `offset_cols * n_rows` floats on.
struct Slot {
  int64_t offset_cols = 0;
  int64_t n_cols = 0;
};

inline constexpr int kNoSlot = -1;

// Slots by op, in the graph's order. The graph's input and output share slot 0.
struct SlotTable {
  struct OpSlots {
    std::vector<int> inputs;  // kNoSlot for an input that is absent
    int output = kNoSlot;     // kNoSlot for an op without outputs
  };
  std::vector<Slot> slots;
  std::vector<OpSlots> ops;
  int output = kNoSlot;
  int64_t n_cols = 0;  // of the region: it takes this many floats per row
};

// Walks the ops in order. Ops that work in place name their input as their output; a residual add
// takes over the storage of its first input, so that x stays where it is through all layers.
SlotTable AssignSlots(const Graph& graph);

}  // namespace thermocline::model
