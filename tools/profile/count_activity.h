// Runs a text through a model and counts what its neurons do.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/neuron_activity.h"
#include "tools/profile/text_windows.h"
#include "worker/assignment.h"

namespace thermocline::tools {

struct CountOptions {
  int n_threads = 1;
  int window_tokens = 256;
  uint64_t seed = 1;  // of the draws for the union curves
  bool quiet = false;
};

// A neuron is active above its layer's entry in `thresholds`; empty: where its magnitude is not 0.
// The codes of WindowRunner and of ActivityCollector::status.
Result<std::vector<model::LayerActivity>> CountActivity(const worker::LoadedModel& model,
                                                        const TextWindows& text,
                                                        const std::vector<float>& thresholds,
                                                        const CountOptions& options);

}  // namespace thermocline::tools
