#include "tools/profile/activity_collector.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/str.h"

namespace thermocline::tools {
namespace {

using model::WeightRole;

std::span<const float> RowOf(TensorView x, int64_t row) {
  return {x.f32_row(row), static_cast<size_t>(x.n_cols)};
}

void AddRows(TensorView x, model::ValueRange* range) {
  for (int64_t row = 0; row < x.n_rows; ++row) range->Add(RowOf(x, row));
}

bool AllFinite(std::span<const float> values) {
  // A sum of magnitudes is finite unless a value is not, or they are near the largest float.
  double sum = 0;
  for (const float v : values) sum += std::fabs(v);
  return std::isfinite(sum);
}

}  // namespace

void Magnitudes(model::Activation activation, std::span<const float> values,
                std::span<float> magnitudes) {
  for (size_t i = 0; i < values.size(); ++i) {
    const float v = values[i];
    const float positive = std::max(v, 0.0f);
    switch (activation) {
      case model::Activation::kRelu:
        magnitudes[i] = positive;
        break;
      case model::Activation::kReluSquared:
        magnitudes[i] = positive * positive;
        break;
      case model::Activation::kSilu:
        magnitudes[i] = std::fabs(v / (1 + std::exp(-v)));
        break;
    }
  }
}

bool IsBeforeActivation(const model::ModelConfig& config, const worker::LoweredOp& op) {
  return op.kind == model::OpKind::kMatMul &&
         op.key.role == (config.ffn_gated ? WeightRole::kFfnGate : WeightRole::kFfnUp);
}

ActivityCollector::ActivityCollector(const model::ModelConfig& config, CollectorOptions options)
    : config_(config), options_(std::move(options)) {
  const auto n_ff = static_cast<size_t>(config.n_ff);
  magnitudes_.resize(n_ff);
  layers_.resize(static_cast<size_t>(config.n_layer));
  for (size_t i = 0; i < layers_.size(); ++i) {
    model::LayerActivity& activity = layers_[i].activity;
    if (!options_.active_thresholds.empty()) {
      activity.active_threshold = options_.active_thresholds[i];
    }
    activity.fired.assign(n_ff, 0);
    activity.peaks.assign(n_ff, 0);
    layers_[i].masks = model::ActivityMasks(config.n_ff);
  }
}

void ActivityCollector::OnOp(const worker::LoweredOp& op, TensorView input, TensorView output) {
  if (op.key.layer == model::kNoLayer) return;
  model::LayerActivity& activity = layers_[static_cast<size_t>(op.key.layer)].activity;
  if (op.key.role == WeightRole::kFfnNorm) AddRows(output, &activity.input);
  if (op.key.role == WeightRole::kFfnDown || op.key.role == WeightRole::kFfnDownT) {
    AddRows(input, &activity.activation);
  }
  if (!IsBeforeActivation(config_, op)) return;
  AddRows(output, &activity.gate);
  CountRows(op.key.layer, output);
}

bool ActivityCollector::IsSampled(int64_t row, int64_t n_rows) const {
  const int64_t n = options_.masks_per_window;
  return row * n / n_rows != (row + 1) * n / n_rows;
}

void ActivityCollector::CountRows(int layer, TensorView values) {
  Layer& counted = layers_[static_cast<size_t>(layer)];
  for (int64_t row = 0; row < values.n_rows; ++row) {
    const std::span<const float> before = RowOf(values, row);
    if (bad_layer_ == model::kNoLayer && !AllFinite(before)) bad_layer_ = layer;
    Magnitudes(config_.activation, before, magnitudes_);
    CountRow(magnitudes_, &counted);
    if (IsSampled(row, values.n_rows)) {
      counted.masks.Add(magnitudes_, counted.activity.active_threshold, window_);
    }
  }
}

void ActivityCollector::CountRow(std::span<const float> magnitudes, Layer* layer) {
  model::LayerActivity& activity = layer->activity;
  for (size_t i = 0; i < magnitudes.size(); ++i) {
    activity.fired[i] += magnitudes[i] > activity.active_threshold ? 1 : 0;
    activity.peaks[i] = std::max(activity.peaks[i], magnitudes[i]);
  }
  layer->histogram.Add(magnitudes);
}

Status ActivityCollector::status() const {
  if (bad_layer_ == model::kNoLayer) return OkStatus();
  return InvalidArgument(
      Str("values are NaN or infinite: the weights of this layer or one before it are damaged:",
          Kv("layer", bad_layer_), Kv("window", window_)));
}

std::vector<model::LayerActivity> ActivityCollector::Take(uint64_t union_seed) {
  std::vector<model::LayerActivity> taken;
  for (Layer& layer : layers_) {
    layer.activity.quantiles = layer.histogram.Quantiles();
    layer.activity.union_shares = model::UnionCurve(layer.masks, union_seed);
    taken.push_back(std::move(layer.activity));
  }
  return taken;
}

}  // namespace thermocline::tools
