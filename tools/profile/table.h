// What a profile says, as tables for a terminal.
#pragma once

#include <string>
#include <vector>

#include "model/sparsity_profile.h"
#include "tools/profile/train_predictors.h"

namespace thermocline::tools {

// A line per layer: density, skew, how many neurons batches need.
std::string LayerTable(const model::SparsityProfile& profile);
// A line per layer: size, recall, precision, bytes.
std::string PredictorTable(const std::vector<PredictorReport>& reports);
// A line per FFN mode.
std::string GuardTable(const model::GuardRecord& guard);

}  // namespace thermocline::tools
