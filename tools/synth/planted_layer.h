// The matrices of the layer that a Planter has in hand.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/str.h"
#include "base/tensor_view.h"
#include "tools/synth/layer_forward.h"
#include "tools/synth/planter.h"
#include "tools/synth/random_matrix.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

inline std::string LayerName(int64_t layer, std::string_view part) {
  return Str("blk.", layer, ".", part, ".weight");
}

// Owned by the Planter while it works on the layer; thread-compatible. Norm weights are 1: then the
// predictor, which sees the residual before the norm, has the sign of what the gate sees after it.
struct Planter::Layer {
  int64_t index = 0;
  std::vector<float> ones;
  EncodedMatrix attn_q, attn_k, attn_v, attn_output, decide, up, down, fc1, fc2;
  std::vector<float> probit;  // of each neuron: NormalQuantile(1 - p)

  TensorView Norm() { return TensorView::F32(ones.data(), 1, static_cast<int64_t>(ones.size())); }
  LayerViews Views(const SynthOptions& options) {
    LayerViews views;
    views.attn_norm = views.ffn_norm = Norm();
    views.attn_q = attn_q.view();
    views.attn_k = attn_k.view();
    views.attn_v = attn_v.view();
    views.attn_output = attn_output.view();
    views.decide = decide.view();
    if (options.gated()) views.up = up.view();
    views.down = down.view();
    views.down_by_neuron = options.powerinfer;
    if (options.powerinfer) {
      views.fc1 = fc1.view();
      views.fc2 = fc2.view();
    }
    return views;
  }
};

}  // namespace thermocline::tools
