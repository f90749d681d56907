// Finds the hidden size of one layer's predictor.
//
// After PowerInfer's section 5.1 (Song et al., SOSP'24): the size starts from the layer's sparsity
// and is changed step by step, considering the skew of its activations. Where they stop at an
// accuracy, this search stops where the bytes that a token reads stop falling: those of the
// predictor, which grow with its size, and those of the neurons it predicts at the recall that is
// asked for, which fall with it. The threshold always meets the recall; a small predictor pays with
// neurons predicted in vain.
#pragma once

#include <cstdint>
#include <functional>

#include "base/dtype.h"
#include "tools/profile/predictor.h"

namespace thermocline::tools {

struct SizingOptions {
  double recall = 0.99;
  double gini = 0;            // of the layer's activations
  uint64_t max_bytes = 0;     // of the predictor
  uint64_t neuron_bytes = 0;  // all neurons of the layer: what predicting everything would read
  int64_t max_hidden = 0;     // 0: only the bytes limit it
};

// Half of a layer's calibration samples choose the threshold, the other half judges it.
struct CalibrationRanges {
  SampleRange threshold;
  SampleRange judged;
};

struct SizedPredictor {
  Predictor predictor;  // before it is rounded to dtype
  DType dtype = DType::kF16;
  PredictorQuality quality;  // as it is after rounding
  uint64_t bytes = 0;        // of the predictor; 0: none fits the budget, and there is none
  int n_tried = 0;           // sizes

  bool exists() const { return bytes > 0; }
  // Bytes that a token reads of this layer's predictor and neurons.
  double BytesPerToken(uint64_t neuron_bytes) const {
    return static_cast<double>(bytes) +
           quality.predicted_density * static_cast<double>(neuron_bytes);
  }
};

// Makes the predictor of a hidden size, starting from the last one made.
using MakePredictorFn = std::function<Predictor(int64_t hidden)>;

// The hidden size at which the search begins.
int64_t StartingSize(int64_t n_embd, double density, int64_t max_hidden);

// Tries sizes until the bytes per token stop falling.
SizedPredictor ChooseSize(kernels::Device& device, const LayerSamples& samples,
                          const CalibrationRanges& ranges, const SizingOptions& options,
                          double density, const MakePredictorFn& make);

}  // namespace thermocline::tools
