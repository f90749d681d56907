#include "model/file_names.h"

namespace thermocline::model {

std::string PathBesideModel(const std::string& model_path, std::string_view ending) {
  constexpr std::string_view kExtension = ".gguf";
  std::string path = model_path;
  if (path.ends_with(kExtension)) path.resize(path.size() - kExtension.size());
  return path.append(ending);
}

std::string ProfilePathOf(const std::string& model_path) {
  return PathBesideModel(model_path, ".profile.gguf");
}

std::string SparsityPathOf(const std::string& model_path) {
  return PathBesideModel(model_path, ".predictor.gguf");
}

}  // namespace thermocline::model
