// Which tensors a synthetic model has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_writer.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

// A bias of each layer, of n elements.
struct LayerBias {
  std::string_view part;
  int64_t n;
};
// Those that the architecture has.
std::vector<LayerBias> LayerBiases(const SynthOptions& options);
std::string LayerBiasName(int64_t layer, std::string_view part);

// In file order.
std::vector<model::GgufTensorSpec> SynthTensors(const SynthOptions& options);

}  // namespace thermocline::tools
