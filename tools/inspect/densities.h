// Which share of its neurons each layer of a model needs for a token, as far as anybody has
// measured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/neuron_activity.h"

namespace thermocline::tools {

struct Densities {
  std::vector<double> layers;  // one per layer, 0 to 1; empty: unknown
  // What batches need, one per layer; zeros or empty: not measured, tokens are then taken to choose
  // independently.
  std::vector<model::UnionShares> unions;
  std::string source;  // for people: where they come from

  bool has_unions() const;
  // Of one layer, what `n_tokens` of one step need.
  double ShareOf(int layer, int64_t n_tokens) const;
};

struct DensityRequest {
  std::string model_path;
  std::string fingerprint;
  int n_layer = 0;
  double active = -1;  // of every layer, instead of what a profile says; negative: not given
};

// From the profile M.profile.gguf beside M.gguf, where there is one. kInvalidArgument or kDataLoss
// for a file that is no profile, or one of another model.
Result<Densities> FindDensities(const DensityRequest& request);

}  // namespace thermocline::tools
