#include "tools/synth/synth_tensors.h"

#include <string_view>
#include <utility>

#include "tools/synth/planted_layer.h"

namespace thermocline::tools {

std::vector<LayerBias> LayerBiases(const SynthOptions& options) {
  if (!options.is_opt()) return {};
  const SynthShape& s = options.shape;
  return {{"attn_norm", s.n_embd},   {"attn_q", s.n_embd},
          {"attn_k", s.n_embd_kv()}, {"attn_v", s.n_embd_kv()},
          {"attn_output", s.n_embd}, {"ffn_norm", s.n_embd},
          {"ffn_up", s.n_ff},        {options.powerinfer ? "ffn_down_t" : "ffn_down", s.n_embd}};
}

std::string LayerBiasName(int64_t layer, std::string_view part) {
  return Str("blk.", layer, ".", part, ".bias");
}

std::vector<model::GgufTensorSpec> SynthTensors(const SynthOptions& options) {
  const SynthShape& s = options.shape;
  const DType t = options.dtype;
  std::vector<model::GgufTensorSpec> tensors = {{"token_embd.weight", t, {s.n_vocab, s.n_embd}},
                                                {"output_norm.weight", DType::kF32, {s.n_embd}},
                                                {"output.weight", t, {s.n_vocab, s.n_embd}}};
  if (options.is_opt()) {
    tensors.push_back({"position_embd.weight", t, {s.n_ctx + kPositionOffset, s.n_embd}});
    tensors.push_back({"output_norm.bias", DType::kF32, {s.n_embd}});
  }
  for (int64_t i = 0; i < s.n_layer; ++i) {
    for (const LayerBias& bias : LayerBiases(options)) {
      tensors.push_back({LayerBiasName(i, bias.part), DType::kF32, {bias.n}});
    }
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
