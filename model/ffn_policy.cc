#include "model/ffn_policy.h"

#include <limits>

#include "base/str.h"

namespace thermocline::model {
namespace {

// What always works and skips most.
FfnMode SafeMode(const ModelConfig& config) {
  return config.relu_family() ? FfnMode::kExact : FfnMode::kDense;
}

std::string InsteadText(const ModelConfig& config) {
  return Str(", or use --ffn ", FfnModeName(SafeMode(config)));
}

// Accepted as they came with the model.
bool IsOwnUnmeasured(const Sparsity& sparsity, FfnMode mode) {
  return mode == FfnMode::kPredicted && sparsity.is_part_of_model && !sparsity.guard.predicted;
}

bool LosesSomething(FfnMode mode) {
  return mode == FfnMode::kPredicted || mode == FfnMode::kThresholded;
}

}  // namespace

Status CheckFfnMode(const ModelConfig& config, const Sparsity& sparsity, FfnMode mode) {
  switch (mode) {
    case FfnMode::kDense:
      return OkStatus();
    case FfnMode::kExact:
      if (config.relu_family()) return OkStatus();
      return InvalidArgument(Str(
          "FFN mode exact needs an activation with exact zeros (relu, "
          "relu2); this ",
          config.arch_name, " model has ", ActivationName(config.activation), ": use --ffn dense"));
    case FfnMode::kPredicted:
      if (sparsity.has_predictors()) return OkStatus();
      return InvalidArgument(
          Str("FFN mode predicted: this ", config.arch_name, " model has no predictor",
              sparsity.path.empty() ? "" : " in " + sparsity.path,
              ": make one by thermocline profile --train-predictor", InsteadText(config)));
    case FfnMode::kThresholded:
      if (sparsity.has_thresholds()) return OkStatus();
      return InvalidArgument(Str("FFN mode thresholded: this ", config.arch_name,
                                 " model has no thresholds on activations",
                                 sparsity.path.empty() ? "" : " in " + sparsity.path,
                                 ": calibrate them by thermocline profile --threshold-target",
                                 InsteadText(config)));
  }
  return Internal("unknown FFN mode");
}

Status CheckFfnLoss(const Sparsity& sparsity, const FfnWish& wish, FfnMode mode) {
  if (!LosesSomething(mode) || IsOwnUnmeasured(sparsity, mode)) return OkStatus();
  constexpr double kNotMeasured = std::numeric_limits<double>::infinity();
  const std::optional<float>& measured =
      mode == FfnMode::kPredicted ? sparsity.guard.predicted : sparsity.guard.thresholded;
  const double loss = measured ? *measured : kNotMeasured;
  const double allowed = wish.allowed_loss.value_or(sparsity.guard.allowed.value_or(0));
  if (loss <= allowed) return OkStatus();
  const std::string fact = measured ? Str(" was measured to lose more perplexity than allowed: ")
                                    : Str(" has no measured loss of perplexity: ");
  return InvalidArgument(Str("FFN mode ", FfnModeName(mode), fact, sparsity.path, Kv("loss", loss),
                             Kv("allowed", allowed), "; --allow-loss ", loss, " accepts it"));
}

Result<FfnModes> ResolveFfnModes(const ModelConfig& config, const Sparsity& sparsity,
                                 const FfnWish& wish) {
  if (wish.forced) {
    TC_RETURN_IF_ERROR(CheckFfnMode(config, sparsity, *wish.forced));
    TC_RETURN_IF_ERROR(CheckFfnLoss(sparsity, wish, *wish.forced));
    return FfnModes(*wish.forced);
  }
  FfnModes modes;
  for (const FfnMode mode : kFfnModes) {
    const bool can = CheckFfnMode(config, sparsity, mode).ok();
    if (can && CheckFfnLoss(sparsity, wish, mode).ok()) modes.Add(mode);
  }
  return modes;
}

std::string UnmeasuredNote(const Sparsity& sparsity, FfnModes modes) {
  if (!modes.Has(FfnMode::kPredicted) || !IsOwnUnmeasured(sparsity, FfnMode::kPredicted)) return "";
  return "nobody has measured what perplexity the model's own predictors lose; `thermocline "
         "profile "
         "--guard` does, and records it";
}

FfnMode LayerFfnMode(const ModelConfig& config, const LayerSparsity& layer, FfnMode mode) {
  if (mode == FfnMode::kPredicted && !layer.has_predictor()) return SafeMode(config);
  if (mode == FfnMode::kThresholded && !layer.has_threshold()) return SafeMode(config);
  return mode;
}

}  // namespace thermocline::model
