// Makes the predictors of all layers of a model from a text.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/neuron_activity.h"
#include "tools/profile/predictor_sizing.h"
#include "tools/profile/sparsity_file.h"
#include "tools/profile/text_windows.h"
#include "worker/assignment.h"

namespace thermocline::tools {

struct PredictorOptions {
  model::PredictorKind kind = model::PredictorKind::kRelu;  // kLinear: without training
  double recall = 0.99;
  double budget_share = 0.1;  // of the bytes of all FFN weights
  int n_steps = 1500;         // per network; resized ones take half
  uint64_t seed = 1;
  uint64_t sample_bytes = 0;  // memory for samples; at least one layer is held
  int n_threads = 1;
  int window_tokens = 256;
  bool quiet = false;
};

// How one layer came out.
struct PredictorReport {
  int64_t hidden = 0;  // 0: none
  DType dtype = DType::kF16;
  uint64_t bytes = 0;
  uint64_t neuron_bytes = 0;  // of the layer's gate, up and down
  PredictorQuality quality;
  int n_tried = 0;
  double time_share = -1;  // of the layer's time for one token; negative: not measured
};

struct TrainedPredictors {
  std::vector<StoredPredictor> stored;
  std::vector<PredictorReport> reports;
};

// `activity` is that of the same text: its density and skew start the search for sizes, its
// thresholds say what is active. kInvalidArgument when the text is too short or the budget too
// small; kAborted by CheckInterrupted; the codes of WindowRunner.
Result<TrainedPredictors> TrainPredictors(const worker::LoadedModel& model, const TextWindows& text,
                                          const std::vector<model::LayerActivity>& activity,
                                          const PredictorOptions& options);

// Bytes of a layer's gate, up and down in the model file.
uint64_t NeuronBytes(const worker::LoadedModel& model, int layer);

}  // namespace thermocline::tools
