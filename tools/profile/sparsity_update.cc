#include "tools/profile/sparsity_update.h"

#include <filesystem>
#include <system_error>

#include "base/str.h"
#include "tools/profile/guard.h"

namespace thermocline::tools {
namespace {

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " and ") + word;
  return text;
}

}  // namespace

Result<SparsityUpdate> SparsityUpdate::Open(const std::string& path,
                                            const model::ModelConfig& config,
                                            const std::string& fingerprint, SparsityParts made,
                                            bool replace) {
  SparsityUpdate update(path);
  update.content_.fingerprint = fingerprint;
  std::error_code error;
  if (replace || !std::filesystem::exists(path, error)) return update;
  auto file = model::OpenSparsityFile(path, config, fingerprint);
  if (!file.ok()) {
    return Status(file.status().code(),
                  Str(file.status().message(), "; --replace writes a new file"));
  }
  update.Keep(std::move(file).value(), made);
  return update;
}

void SparsityUpdate::Keep(model::SparsityFile file, SparsityParts made) {
  file_ = std::make_unique<const model::SparsityFile>(std::move(file));
  const model::Sparsity& sparsity = file_->sparsity;
  std::vector<std::string> kept;
  if (!made.predictors) {
    content_.guard.predicted = sparsity.guard.predicted;
    if (sparsity.has_predictors()) {
      content_.kept_predictors = file_.get();
      kept.emplace_back("predictors");
    }
  }
  if (!made.thresholds && sparsity.has_thresholds()) {
    content_.guard.thresholded = sparsity.guard.thresholded;
    for (const model::LayerSparsity& layer : sparsity.layers) {
      content_.activation_thresholds.push_back(layer.activation_threshold);
    }
    kept.emplace_back("thresholds");
  }
  if (kept.empty() && content_.guard.predicted) kept.emplace_back("measured loss");
  if (!kept.empty()) content_.guard.allowed = sparsity.guard.allowed;
  kept_text_ = Join(kept);
}

void SparsityUpdate::RecordLosses(const model::GuardRecord& measured) {
  using model::FfnMode;
  model::LossGuard& guard = content_.guard;
  if (const auto loss = LossOf(measured, FfnMode::kPredicted)) guard.predicted = loss;
  if (const auto loss = LossOf(measured, FfnMode::kThresholded)) guard.thresholded = loss;
  guard.allowed = static_cast<float>(measured.allowed_loss);
}

}  // namespace thermocline::tools
