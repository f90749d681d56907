// Opens a checkpoint folder (config.json, *.safetensors, a tokenizer) as a model under GGUF names.
#pragma once

#include <string>

#include "base/status.h"
#include "tools/convert/source_model.h"

namespace thermocline::tools {

// kInvalidArgument names what is not supported: an architecture, a tensor, a tokenizer; kNotFound
// and kDataLoss for missing and broken files.
Result<SourceModel> OpenCheckpoint(const std::string& folder);

}  // namespace thermocline::tools
