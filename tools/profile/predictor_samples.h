// What predictors learn from: inputs of a layer's FFN and which neurons they made active.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/neuron_activity.h"
#include "tools/profile/text_windows.h"
#include "worker/assignment.h"
#include "worker/executor.h"

namespace thermocline::tools {

// The tokens of one layer, in the order of the text.
struct LayerSamples {
  int64_t n_embd = 0;
  std::vector<float> inputs;    // [n, n_embd]: the output of ffn_norm
  model::ActivityMasks active;  // of the same tokens

  int64_t n() const { return static_cast<int64_t>(active.n_tokens()); }
  TensorView Rows(int64_t begin, int64_t n_rows) const {
    return TensorView::F32(const_cast<float*>(inputs.data()) + begin * n_embd, n_rows, n_embd);
  }
  static uint64_t BytesPerToken(const model::ModelConfig& config) {
    return sizeof(float) * static_cast<uint64_t>(config.n_embd) +
           model::ActivityMasks::BytesPerToken(config.n_ff);
  }
};

struct SampleOptions {
  int n_threads = 1;
  int window_tokens = 256;
  std::vector<float> active_thresholds;  // per layer; empty: exact zeros
  bool quiet = false;
};

// Runs `text` through the model and keeps the samples of layers [begin, end). The codes of
// WindowRunner.
Result<std::vector<LayerSamples>> CollectSamples(const worker::LoadedModel& model,
                                                 const TextWindows& text, int begin, int end,
                                                 const SampleOptions& options);

}  // namespace thermocline::tools
