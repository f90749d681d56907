// Chooses the thresholds of thresholded mode for an allowed loss of perplexity.
//
// After CATS (Lee et al. 2024) and TEAL (Liu et al. 2024): each layer's threshold is the same
// quantile of its magnitudes |act(gate x)|, and that quantile, the sparsity, is found by bisection.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/neuron_activity.h"
#include "tools/profile/guard.h"
#include "tools/profile/text_windows.h"
#include "worker/assignment.h"

namespace thermocline::tools {

// The magnitude that a share `sparsity` (0 to 1) of a layer's magnitudes does not exceed, between
// the recorded quantiles by straight lines.
float MagnitudeAt(const std::vector<float>& quantiles, double sparsity);
std::vector<float> ThresholdsAt(const std::vector<model::LayerActivity>& layers, double sparsity);

struct ThresholdChoice {
  double sparsity = 0;
  double loss = 0;  // on the calibration text
  std::vector<float> thresholds;
};

// The largest sparsity whose loss on `text` stays within `allowed_loss`. Leaves the thresholds in
// `model`. kInvalidArgument when even the smallest one tried loses more; the codes of
// MeasurePerplexity.
Result<ThresholdChoice> FindThresholds(const TextWindows& text,
                                       const std::vector<model::LayerActivity>& layers,
                                       double allowed_loss, const GuardOptions& options,
                                       worker::LoadedModel* model);

}  // namespace thermocline::tools
