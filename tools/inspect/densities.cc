#include "tools/inspect/densities.h"

#include <string_view>

#include "base/str.h"
#include "model/gguf.h"
#include "model/range_reader.h"

namespace thermocline::tools {
namespace {

constexpr std::string_view kArchitecture = "thermocline.profile";
constexpr std::string_view kFingerprintKey = "thermocline.profile.model_fingerprint";
constexpr std::string_view kDensityKey = "thermocline.profile.density";

Result<std::vector<double>> ReadDensities(const model::GgufFile& file,
                                          const DensityRequest& request) {
  TC_ASSIGN_OR_RETURN(const std::string architecture, file.GetString("general.architecture"));
  if (architecture != kArchitecture) {
    return InvalidArgument(Str("not a profile:", Kv("architecture", Printable(architecture))));
  }
  TC_ASSIGN_OR_RETURN(const std::string fingerprint, file.GetString(kFingerprintKey));
  if (fingerprint != request.fingerprint) {
    return InvalidArgument(
        Str("profile of another model:", Kv("fingerprint", Printable(fingerprint)),
            Kv("model", request.fingerprint)));
  }
  if (!file.Has(kDensityKey)) return std::vector<double>();
  TC_ASSIGN_OR_RETURN(std::vector<double> densities, file.GetFloats(kDensityKey));
  if (densities.size() != static_cast<size_t>(request.n_layer)) {
    return InvalidArgument(Str(kDensityKey, " has another length than the model has layers:",
                               Kv("values", densities.size()), Kv("layers", request.n_layer)));
  }
  for (const double density : densities) {
    if (density >= 0 && density <= 1) continue;
    return DataLoss(Str(kDensityKey, " is not within 0 and 1:", Kv("value", density)));
  }
  return densities;
}

}  // namespace

std::string ProfilePathOf(const std::string& model_path) {
  constexpr std::string_view kExtension = ".gguf";
  std::string stem = model_path;
  if (stem.ends_with(kExtension)) stem.resize(stem.size() - kExtension.size());
  return stem + ".profile.gguf";
}

Result<Densities> FindDensities(const DensityRequest& request) {
  Densities found;
  if (request.active >= 0) {
    found.layers.assign(static_cast<size_t>(request.n_layer), request.active);
    found.source = Str("--active ", request.active);
    return found;
  }
  const std::string path = ProfilePathOf(request.model_path);
  const auto reader = model::OpenMappedFile(path);
  if (reader.status().code() == StatusCode::kNotFound) return found;
  TC_RETURN_IF_ERROR(reader.status());
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(**reader));
  auto densities = ReadDensities(file, request);
  if (!densities.ok()) return densities.status().WithContext(path);
  found.layers = *std::move(densities);
  if (!found.layers.empty()) found.source = path;
  return found;
}

}  // namespace thermocline::tools
