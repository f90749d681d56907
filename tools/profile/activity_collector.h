// Watches a model read and counts what its neurons do.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/neuron_activity.h"
#include "worker/executor.h"

namespace thermocline::tools {

// Turns the values before an activation into magnitudes |act(v)|. `magnitudes` may be `values`.
void Magnitudes(model::Activation activation, std::span<const float> values,
                std::span<float> magnitudes);

// Whether `op` computes what the activation reads: gate, or up in an FFN without one.
bool IsBeforeActivation(const model::ModelConfig& config, const worker::LoweredOp& op);

struct CollectorOptions {
  std::vector<float> active_thresholds;  // per layer; empty: exact zeros
  // Masks kept per window for the union curve; 0: none.
  int masks_per_window = 0;
};

// Step thread only. Watches a dense run; in other modes inactive neurons have no values.
class ActivityCollector final : public worker::OpObserver {
 public:
  ActivityCollector(const model::ModelConfig& config, CollectorOptions options);

  void OnOp(const worker::LoweredOp& op, TensorView input, TensorView output) override;
  // Later values belong to the next window.
  void NextWindow() { ++window_; }
  // kInvalidArgument names the first layer in which a value was not finite.
  Status status() const;

  // What was counted; ends the collection.
  std::vector<model::LayerActivity> Take(uint64_t union_seed);

 private:
  struct Layer {
    model::LayerActivity activity;
    model::MagnitudeHistogram histogram;
    model::ActivityMasks masks;
  };
  void CountRows(int layer, TensorView values);
  void CountRow(std::span<const float> magnitudes, Layer* layer);
  bool IsSampled(int64_t row, int64_t n_rows) const;

  const model::ModelConfig& config_;
  const CollectorOptions options_;
  std::vector<Layer> layers_;
  std::vector<float> magnitudes_;  // of one row
  int window_ = 0;
  int bad_layer_ = model::kNoLayer;
};

}  // namespace thermocline::tools
