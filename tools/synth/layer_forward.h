// One layer after the other of a synthetic model over a few hundred tokens: what calibration and
// checking measure activations with.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

struct LayerViews {
  TensorView attn_norm, attn_q, attn_k, attn_v, attn_output, ffn_norm;
  TensorView decide;  // ffn_gate, or ffn_up where there is no gate: its sign makes neurons active
  TensorView up;      // empty without a gate
  TensorView down;
  bool down_by_neuron = false;
  TensorView fc1, fc2;  // the predictor, or empty
};

// Owns the residual x[n_tokens, n_embd] and scratch. Runs all tokens of `n_sequences` sequences of
// equal length through one layer at a time. Thread-compatible.
class LayerForward {
 public:
  struct Batch {
    int64_t n_sequences = 1;
    int64_t sequence_tokens = 0;
    int64_t n_tokens() const { return n_sequences * sequence_tokens; }
  };
  // kResourceExhausted when the device has no memory for the scratch.
  static Result<std::unique_ptr<LayerForward>> Create(const SynthOptions& options,
                                                      const Batch& batch, kernels::Device& device);

  TensorView x() { return View(x_, shape_.n_embd); }
  // x = rows of an embedding table.
  void Embed(TensorView table, std::span<const int32_t> tokens);
  // x += rows of a table of learned positions, which begins with kPositionOffset others.
  void AddPositions(TensorView table);
  // x += attention(norm(x)).
  void Attend(const LayerViews& layer);
  // decide . norm(x), which stays valid until the next call.
  TensorView Decide(const LayerViews& layer);
  // fc2 relu(fc1 x): the predictor's logits, valid as the result of Decide.
  TensorView Predict(const LayerViews& layer);
  // The neurons' activations for what Decide gave last, in its place.
  TensorView Activate(const LayerViews& layer);
  // x += down of what Activate gave last.
  void AddDown(const LayerViews& layer);

 private:
  LayerForward(const SynthOptions& options, const Batch& batch, kernels::Device& device)
      : shape_(options.shape),
        gated_(options.gated()),
        is_opt_(options.is_opt()),
        batch_(batch),
        device_(device) {}
  Status Allocate(int64_t n_predictor);
  // h = norm(x). The biases of synthetic models, where there are any, are 0.
  void Normalise(TensorView weight);
  void Rotate(TensorView q, TensorView k);
  TensorView View(Buffer& buffer, int64_t n_cols) const {
    return TensorView::Dense(buffer.data(), DType::kF32, batch_.n_tokens(), n_cols);
  }

  const SynthShape shape_;
  const bool gated_;
  const bool is_opt_;
  const Batch batch_;
  kernels::Device& device_;
  Buffer x_, h_, q_, k_, v_, attended_, z_, up_, hidden_, k_pages_, v_pages_;
  kernels::KvPages pages_;
  std::vector<int32_t> page_ids_;
  std::vector<int64_t> positions_;
  std::vector<kernels::SequenceRows> sequences_;
};

}  // namespace thermocline::tools
