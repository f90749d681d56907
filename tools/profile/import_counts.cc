#include "tools/profile/import_counts.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/str.h"
#include "model/counts_file.h"

namespace thermocline::tools {
namespace {

Result<std::unique_ptr<model::RangeReader>> OpenCounts(const std::string& directory, int layer) {
  const std::string stem = Str(directory, "/activation_", layer);
  auto torch = model::OpenMappedFile(stem + ".pt");
  if (torch.status().code() != StatusCode::kNotFound) return torch;
  auto npy = model::OpenMappedFile(stem + ".npy");
  if (npy.status().code() != StatusCode::kNotFound) return npy;
  return NotFound(Str("no counts of a layer: neither ", stem, ".pt nor .npy"));
}

}  // namespace

Status ImportCounts(const std::string& directory, const model::ModelConfig& config,
                    std::optional<uint64_t> n_tokens, model::SparsityProfile* profile) {
  uint64_t largest = 1;
  for (int layer = 0; layer < config.n_layer; ++layer) {
    TC_ASSIGN_OR_RETURN(const auto reader, OpenCounts(directory, layer));
    model::LayerActivity activity;
    TC_ASSIGN_OR_RETURN(activity.fired, model::ReadCounts(*reader));
    if (activity.fired.size() != static_cast<size_t>(config.n_ff)) {
      return InvalidArgument(
          Str("counts of another number of neurons than the model's: ", reader->name(),
              Kv("counts", activity.fired.size()), Kv("n_ff", config.n_ff)));
    }
    largest = std::max(largest, *std::max_element(activity.fired.begin(), activity.fired.end()));
    profile->layers.push_back(std::move(activity));
  }
  if (n_tokens && largest > *n_tokens) {
    return InvalidArgument(Str("counts exceed the tokens they were taken over:",
                               Kv("largest", largest), Kv("tokens", *n_tokens)));
  }
  profile->n_tokens = n_tokens.value_or(largest);
  profile->n_tokens_is_guess = !n_tokens.has_value();
  profile->source = Str("counts in ", directory);
  return OkStatus();
}

}  // namespace thermocline::tools
