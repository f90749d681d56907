// Measures a written synthetic model: what share of its neurons is active for text it generates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

struct LayerDensity {
  double active = 0;  // mean share of neurons
  // With predictors: the share predicted, of the active ones the share predicted, and of the
  // predicted ones the share active.
  double predicted = 0, recall = 0, precision = 0;
};

// Samples `n_tokens` tokens from the model in `path` with the engine that serves it, then runs them
// through every layer again, counting. The codes of opening and running a model.
Result<std::vector<LayerDensity>> MeasureDensity(const std::string& path,
                                                 const SynthOptions& options, int64_t n_tokens,
                                                 kernels::Device& device, int n_threads);

}  // namespace thermocline::tools
