#include "tools/inspect/densities.h"

#include <algorithm>

#include "base/str.h"
#include "model/file_names.h"
#include "model/range_reader.h"
#include "model/sparsity_profile.h"

namespace thermocline::tools {
namespace {

Result<Densities> ReadDensities(const model::RangeReader& reader, const DensityRequest& request) {
  TC_ASSIGN_OR_RETURN(const model::SparsityProfile profile, model::ReadSparsityProfile(reader));
  TC_RETURN_IF_ERROR(
      model::CheckProfileOf(profile, request.fingerprint).WithContext(reader.name()));
  if (profile.layers.size() != static_cast<size_t>(request.n_layer)) {
    return InvalidArgument(Str(reader.name(), ": another number of layers than the model has:",
                               Kv("profile", profile.layers.size()),
                               Kv("layers", request.n_layer)));
  }
  Densities found;
  for (const model::LayerActivity& layer : profile.layers) {
    found.layers.push_back(model::Density(layer.fired, profile.n_tokens));
    found.unions.push_back(layer.union_shares);
  }
  found.source = reader.name();
  return found;
}

}  // namespace

bool Densities::has_unions() const {
  return std::any_of(unions.begin(), unions.end(), [](const auto& u) { return u.back() > 0; });
}

double Densities::ShareOf(int layer, int64_t n_tokens) const {
  const auto i = static_cast<size_t>(layer);
  const model::UnionShares curve = i < unions.size() ? unions[i] : model::UnionShares{};
  return model::UnionShareAt(curve, layers[i], n_tokens);
}

Result<Densities> FindDensities(const DensityRequest& request) {
  Densities found;
  if (request.active >= 0) {
    found.layers.assign(static_cast<size_t>(request.n_layer), request.active);
    found.source = Str("--active ", request.active);
    return found;
  }
  const auto reader = model::OpenMappedFile(model::ProfilePathOf(request.model_path));
  if (reader.status().code() == StatusCode::kNotFound) return found;
  TC_RETURN_IF_ERROR(reader.status());
  return ReadDensities(**reader, request);
}

}  // namespace thermocline::tools
