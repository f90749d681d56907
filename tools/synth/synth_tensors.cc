#include "tools/synth/synth_tensors.h"

#include <string_view>
#include <utility>

#include "tools/synth/planted_layer.h"

namespace thermocline::tools {

std::vector<model::GgufTensorSpec> SynthTensors(const SynthOptions& options) {
  const SynthShape& s = options.shape;
  const DType t = options.dtype;
  std::vector<model::GgufTensorSpec> tensors = {{"token_embd.weight", t, {s.n_vocab, s.n_embd}},
                                                {"output_norm.weight", DType::kF32, {s.n_embd}},
                                                {"output.weight", t, {s.n_vocab, s.n_embd}}};
  for (int64_t i = 0; i < s.n_layer; ++i) {
    const auto add = [&](std::string_view part, DType dtype, std::vector<int64_t> shape) {
      tensors.push_back({LayerName(i, part), dtype, std::move(shape)});
    };
    add("attn_norm", DType::kF32, {s.n_embd});
    add("attn_q", t, {s.n_embd, s.n_embd});
    add("attn_k", t, {s.n_embd_kv(), s.n_embd});
    add("attn_v", t, {s.n_embd_kv(), s.n_embd});
    add("attn_output", t, {s.n_embd, s.n_embd});
    add("ffn_norm", DType::kF32, {s.n_embd});
    if (options.gated()) add("ffn_gate", t, {s.n_ff, s.n_embd});
    add("ffn_up", t, {s.n_ff, s.n_embd});
    if (!options.powerinfer) {
      add("ffn_down", t, {s.n_embd, s.n_ff});
      continue;
    }
    add("ffn_down_t", t, {s.n_ff, s.n_embd});
    add("fc1", options.predictor_dtype, {options.n_predictor, s.n_embd});
    add("fc2", options.predictor_dtype, {s.n_ff, options.n_predictor});
  }
  return tensors;
}

}  // namespace thermocline::tools
