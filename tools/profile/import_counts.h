// Profiles from counts that somebody else took.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "model/config.h"
#include "model/sparsity_profile.h"

namespace thermocline::tools {

// Reads DIR/activation_<layer>.pt, or .npy, of every layer, as PowerInfer's profiler leaves them.
// Without `n_tokens` the largest count stands for it, and the profile says so. kNotFound: a layer
// without a file; kInvalidArgument: another number of neurons than the model has, a count above
// `n_tokens`; the codes of ReadCounts.
Status ImportCounts(const std::string& directory, const model::ModelConfig& config,
                    std::optional<uint64_t> n_tokens, model::SparsityProfile* profile);

}  // namespace thermocline::tools
