// The names of tensors in checkpoints, by layout.
#pragma once

#include <string>
#include <string_view>

#include "tools/convert/checkpoint_config.h"

namespace thermocline::tools {

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; "" when the name means nothing in
// this layout.
std::string GgufName(const CheckpointLayout& layout, std::string_view name);

}  // namespace thermocline::tools
