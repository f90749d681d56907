// Which values move between the members of a stage.
#pragma once

#include "base/ids.h"

namespace thermocline::worker {

// Several batches may be at one layer, and one batch passes it once: its attention, then its FFN.
struct PartKey {
  StepId step;
  int layer_in_stage = 0;
  bool of_heads = false;  // of its attention; else of its FFN
  friend bool operator==(const PartKey&, const PartKey&) = default;
};

}  // namespace thermocline::worker
