// What a synthetic model is to be.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"

namespace thermocline::tools {

struct SynthShape {
  int64_t n_embd = 2048;
  int64_t n_ff = 8192;
  int64_t n_layer = 16;
  int64_t n_head = 16;
  int64_t n_head_kv = 8;
  int64_t n_vocab = 32000;
  int64_t n_ctx = 4096;

  int64_t head_dim() const { return n_embd / n_head; }
  int64_t n_embd_kv() const { return n_head_kv * head_dim(); }
};

struct SynthOptions {
  SynthShape shape;
  std::string arch = "arcee";  // arcee: ReLU^2 without gate; llama: ReGLU; opt: ReLU without gate
  DType dtype = DType::kF16;   // of all matrices but predictors
  bool powerinfer = false;     // PowerInfer's dialect: llama or opt with predictors
  int64_t n_predictor = 512;   // hidden size of the predictors
  DType predictor_dtype = DType::kF16;
  double density = 0.10;    // mean share of neurons that are active for a token
  double hot_frac = 0.26;   // this share of the neurons ...
  double hot_share = 0.80;  // ... makes this share of the activations
  uint64_t seed = 1;

  bool gated() const { return arch == "llama"; }
  // LayerNorm, learned positions, and a bias for every matrix.
  bool is_opt() const { return arch == "opt"; }
};

// How sparsity is planted. The first kConstantDims elements of the residual carry a constant that
// every embedding has and no layer writes to, so the matching columns of the matrix that decides
// whether a neuron is active add a constant of its own to each neuron: a bias without a bias
// tensor. The bias is set from the distribution that the layer's real inputs give the neuron
// (calibration), so that neuron i is active with the probability that a power law gives it.
//
// One group of 32 weights, which all quantised types scale on its own: a constant group is stored
// almost exactly.
inline constexpr int64_t kConstantDims = 32;
// The constant. Twice the deviation of the other elements: large enough that biases stay within the
// size of other weights, and small beside n_embd of them.
inline constexpr float kConstant = 2.0f;
// Rows of OPT's table of positions before that of position 0.
inline constexpr int64_t kPositionOffset = 2;
// Added by every norm of a synthetic model.
inline constexpr float kNormEps = 1e-5f;
inline constexpr float kRopeBase = 10000.0f;

}  // namespace thermocline::tools
