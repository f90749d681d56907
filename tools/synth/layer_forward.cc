#include "tools/synth/layer_forward.h"

#include <cmath>
#include <utility>

namespace thermocline::tools {

Result<std::unique_ptr<LayerForward>> LayerForward::Create(const SynthOptions& options,
                                                           const Batch& batch,
                                                           kernels::Device& device) {
  std::unique_ptr<LayerForward> forward(new LayerForward(options, batch, device));
  TC_RETURN_IF_ERROR(forward->Allocate(options.powerinfer ? options.n_predictor : 1));
  forward->page_ids_.resize(static_cast<size_t>(batch.n_sequences));
  for (int64_t s = 0; s < batch.n_sequences; ++s) {
    forward->page_ids_[static_cast<size_t>(s)] = static_cast<int32_t>(s);
    forward->sequences_.push_back(
        {static_cast<int>(s * batch.sequence_tokens), static_cast<int>(batch.sequence_tokens), 0,
         std::span(forward->page_ids_).subspan(static_cast<size_t>(s), 1)});
    for (int64_t t = 0; t < batch.sequence_tokens; ++t) forward->positions_.push_back(t);
  }
  return forward;
}

// One page per sequence.
Status LayerForward::Allocate(int64_t n_predictor) {
  const int64_t n_kv = shape_.n_embd_kv();
  const std::pair<Buffer*, int64_t> buffers[] = {
      {&x_, shape_.n_embd}, {&h_, shape_.n_embd}, {&q_, shape_.n_embd},
      {&k_, n_kv},          {&v_, n_kv},          {&attended_, shape_.n_embd},
      {&z_, shape_.n_ff},   {&up_, shape_.n_ff},  {&hidden_, n_predictor},
      {&k_pages_, n_kv},    {&v_pages_, n_kv}};
  for (const auto& [buffer, n_cols] : buffers) {
    const uint64_t n_bytes = static_cast<uint64_t>(batch_.n_tokens() * n_cols) * sizeof(float);
    TC_ASSIGN_OR_RETURN(*buffer, device_.Allocate(n_bytes));
  }
  pages_.k = k_pages_.data();
  pages_.v = v_pages_.data();
  pages_.page_tokens = static_cast<int>(batch_.sequence_tokens);
  pages_.n_head_kv = static_cast<int>(shape_.n_head_kv);
  pages_.head_dim = static_cast<int>(shape_.head_dim());
  return OkStatus();
}

void LayerForward::Embed(TensorView table, std::span<const int32_t> tokens) {
  device_.ops().Embed(table, tokens, x());
}

void LayerForward::AddPositions(TensorView table) {
  std::vector<int32_t> rows;
  for (const int64_t position : positions_) {
    rows.push_back(static_cast<int32_t>(position + kPositionOffset));
  }
  const TensorView h = View(h_, shape_.n_embd);
  device_.ops().Embed(table, rows, h);
  device_.ops().Add(x(), h, x());
}

void LayerForward::Normalise(TensorView weight) {
  const TensorView h = View(h_, shape_.n_embd);
  if (is_opt_) {
    device_.ops().LayerNorm(x(), weight, {}, kNormEps, h);
  } else {
    device_.ops().RmsNorm(x(), weight, kNormEps, h);
  }
}

void LayerForward::Rotate(TensorView q, TensorView k) {
  const auto head_dim = static_cast<int>(shape_.head_dim());
  const kernels::RopeArgs rope{kernels::RopePairing::kAdjacent, head_dim, kRopeBase, 1, {}};
  device_.ops().Rope(rope, positions_, head_dim, q);
  device_.ops().Rope(rope, positions_, head_dim, k);
}

void LayerForward::Attend(const LayerViews& layer) {
  kernels::Ops& ops = device_.ops();
  const TensorView h = View(h_, shape_.n_embd), q = View(q_, shape_.n_embd);
  const TensorView k = View(k_, shape_.n_embd_kv()), v = View(v_, shape_.n_embd_kv());
  const TensorView attended = View(attended_, shape_.n_embd);
  Normalise(layer.attn_norm);
  ops.MatMul(layer.attn_q, h, {}, q);
  ops.MatMul(layer.attn_k, h, {}, k);
  ops.MatMul(layer.attn_v, h, {}, v);
  if (!is_opt_) Rotate(q, k);
  ops.StoreKv(k, v, sequences_, pages_);
  ops.Attention(q, sequences_, pages_, 1 / std::sqrt(static_cast<float>(shape_.head_dim())),
                attended);
  ops.MatMul(layer.attn_output, attended, {}, h);
  ops.Add(x(), h, x());
}

TensorView LayerForward::Decide(const LayerViews& layer) {
  const TensorView h = View(h_, shape_.n_embd), z = View(z_, shape_.n_ff);
  Normalise(layer.ffn_norm);
  device_.ops().MatMul(layer.decide, h, {}, z);
  return z;
}

TensorView LayerForward::Predict(const LayerViews& layer) {
  const TensorView hidden = View(hidden_, layer.fc1.n_rows), logits = View(up_, shape_.n_ff);
  device_.ops().MatMul(layer.fc1, x(), {}, hidden);
  device_.ops().Activate(kernels::Activation::kRelu, hidden, {}, hidden);
  device_.ops().MatMul(layer.fc2, hidden, {}, logits);
  return logits;
}

TensorView LayerForward::Activate(const LayerViews& layer) {
  const TensorView z = View(z_, shape_.n_ff);
  if (!gated_) {
    const auto kind = is_opt_ ? kernels::Activation::kRelu : kernels::Activation::kReluSquared;
    device_.ops().Activate(kind, z, {}, z);
    return z;
  }
  const TensorView up = View(up_, shape_.n_ff);
  device_.ops().MatMul(layer.up, View(h_, shape_.n_embd), {}, up);
  device_.ops().Activate(kernels::Activation::kRelu, z, up, z);
  return z;
}

void LayerForward::AddDown(const LayerViews& layer) {
  const TensorView a = View(z_, shape_.n_ff), y = View(h_, shape_.n_embd);
  if (layer.down_by_neuron) {
    device_.ops().AxpyRows(layer.down, a, kernels::ActiveIds::All(), {}, y);
  } else {
    device_.ops().MatMul(layer.down, a, {}, y);
  }
  device_.ops().Add(x(), y, x());
}

}  // namespace thermocline::tools
