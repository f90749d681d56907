#include "tools/profile/threshold_search.h"

#include <algorithm>
#include <cmath>

#include "base/str.h"

namespace thermocline::tools {
namespace {

// Below the smallest a mode saves nothing; no published model stands the largest.
constexpr double kMinSparsity = 0.05, kMaxSparsity = 0.98;
// The sparsity is then known to 0.4 %.
constexpr int kBisections = 8;

void SetThresholds(const std::vector<float>& thresholds, worker::LoadedModel* model) {
  for (size_t i = 0; i < thresholds.size(); ++i) {
    model->sparsity.layers[i].activation_threshold = thresholds[i];
  }
}

}  // namespace

float MagnitudeAt(const std::vector<float>& quantiles, double sparsity) {
  const double at = std::clamp(sparsity, 0.0, 1.0) * static_cast<double>(quantiles.size() - 1);
  const auto below = std::min(static_cast<size_t>(at), quantiles.size() - 2);
  const auto way = static_cast<float>(at - static_cast<double>(below));
  return quantiles[below] + way * (quantiles[below + 1] - quantiles[below]);
}

std::vector<float> ThresholdsAt(const std::vector<model::LayerActivity>& layers, double sparsity) {
  std::vector<float> thresholds;
  for (const auto& layer : layers) thresholds.push_back(MagnitudeAt(layer.quantiles, sparsity));
  return thresholds;
}

Result<ThresholdChoice> FindThresholds(const TextWindows& text,
                                       const std::vector<model::LayerActivity>& layers,
                                       double allowed_loss, const GuardOptions& options,
                                       worker::LoadedModel* model) {
  double dense = 0;
  const auto loss_at = [&](double sparsity) -> Result<double> {
    SetThresholds(ThresholdsAt(layers, sparsity), model);
    const bool first = dense == 0;
    std::vector<model::FfnMode> modes = {model::FfnMode::kThresholded};
    if (first) modes.insert(modes.begin(), model::FfnMode::kDense);
    TC_ASSIGN_OR_RETURN(const model::GuardRecord measured,
                        MeasureModes(*model, text, modes, options));
    if (first) dense = measured.results.front().perplexity;
    return measured.results.back().perplexity / dense - 1;
  };
  ThresholdChoice choice;
  choice.sparsity = kMinSparsity;
  TC_ASSIGN_OR_RETURN(choice.loss, loss_at(kMinSparsity));
  if (choice.loss > allowed_loss) {
    return InvalidArgument(
        Str("no threshold keeps the loss asked for:", Kv("sparsity", kMinSparsity),
            Kv("loss", choice.loss), Kv("allowed", allowed_loss)));
  }
  double too_much = kMaxSparsity;
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (choice.sparsity + too_much) / 2;
    TC_ASSIGN_OR_RETURN(const double loss, loss_at(middle));
    if (loss > allowed_loss) {
      too_much = middle;
    } else {
      choice.sparsity = middle;
      choice.loss = loss;
    }
  }
  choice.thresholds = ThresholdsAt(layers, choice.sparsity);
  SetThresholds(choice.thresholds, model);
  return choice;
}

}  // namespace thermocline::tools
