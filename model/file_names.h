// Where the files of a model lie by default: beside it, under its name.
#pragma once

#include <string>
#include <string_view>

namespace thermocline::model {

// "dir/M.gguf" and ".x" -> "dir/M.x"; another ending than .gguf stays.
std::string PathBesideModel(const std::string& model_path, std::string_view ending);

// "dir/M.gguf" -> "dir/M.profile.gguf": see model/sparsity_profile.h.
std::string ProfilePathOf(const std::string& model_path);

// "dir/M.gguf" -> "dir/M.predictor.gguf": see model/sparsity.h.
std::string SparsityPathOf(const std::string& model_path);

}  // namespace thermocline::model
