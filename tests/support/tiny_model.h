// Complete random models of a few kilobytes, for tests that need one to run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "tests/support/gguf_image.h"

namespace thermocline::testing {

// Weights are uniform with the deviations that keep activations of order 1, so that logits differ
// clearly from token to token; equal specs give equal bytes. Rows must be whole blocks of `dtype`:
// n_embd and n_ff multiples of 32 for Q8_0 and Q4_0, of 256 for the K types.
struct TinyModelSpec {
  std::string arch = "llama";  // llama, qwen2, arcee, nemotron, bamboo or opt
  GgufDialect dialect =
      GgufDialect::kGguf;  // kPowerInfer: llama, bamboo or opt with predictors and ffn_down_t
  int n_layer = 2;
  int n_embd = 64;
  int n_ff = 128;
  int n_head = 4;
  int n_head_kv = 2;  // opt has n_head
  int n_vocab = 288;  // from 259 on with byte tokens, so that any text can be encoded
  int n_ctx = 512;
  int n_predictor = 32;  // hidden size of PowerInfer's predictors
  // PowerInfer's predictors tell the sign of the gate up to rounding, with a hidden size of
  // 2 n_embd; F32 only.
  bool exact_predictor = false;
  float predictor_threshold = 0;  // PowerInfer's
  DType dtype = DType::kF32;      // of all matrices; norms and biases are F32
  uint64_t seed = 1;
  bool tied = false;        // opt always is
  bool rope_freqs = false;  // Llama-3 style divisors
  std::string activation;   // "relu": ReGLU for llama and qwen2; "": the architecture's own
};

// To change before taking its bytes.
GgufImage TinyModelImage(const TinyModelSpec& spec);
std::vector<std::byte> TinyModel(const TinyModelSpec& spec);

// Random weights of deviation `deviation` around `mean` (0 for quantised types) in the file layout
// of `dtype`.
struct RandomWeights {
  DType dtype = DType::kF32;
  uint64_t n_elems = 0;
  float deviation = 1;
  float mean = 0;
  uint64_t seed = 0;
};
std::string RandomTensorData(const RandomWeights& weights);

}  // namespace thermocline::testing
