// Which tensors a synthetic model has.
#pragma once

#include <vector>

#include "model/gguf_writer.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

// In file order.
std::vector<model::GgufTensorSpec> SynthTensors(const SynthOptions& options);

}  // namespace thermocline::tools
