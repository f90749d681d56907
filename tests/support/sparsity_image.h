// Sparsity files for the tiny models of tests.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "tests/support/gguf_image.h"

namespace thermocline::testing {

// Of every layer; `kind` and `input` as the format names them.
struct SparsitySpec {
  std::string fingerprint = std::string(32, '0');
  std::string kind = "relu";  // "" : no predictors
  std::string input = "residual";
  int n_hidden = 16;
  float predictor_threshold = 0;
  float activation_threshold = -1;  // negative in every layer: the list is left out
};

// A valid file for models of `config`, with random predictors; to change before taking its bytes.
GgufImage SparsityImage(const SparsitySpec& spec, const model::ModelConfig& config);

// Replaces the predictors by linear ones that give each neuron's gate (or up) product, from the
// model's own F32 weights.
void PlantExactPredictors(const GgufImage& model, const model::ModelConfig& config,
                          GgufImage* sparsity);

}  // namespace thermocline::testing
