// Decides what each tensor of a conversion becomes, before any weight is read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/gguf_writer.h"
#include "tools/convert/source_model.h"

namespace thermocline::tools {

struct ConversionOptions {
  std::optional<DType> dtype;         // of matrices; nullopt: each keeps its own
  std::optional<DType> output_dtype;  // of output and token_embd; nullopt: as the others
  bool neuron_rows = false;           // ffn_down becomes ffn_down_t
};

// What one tensor of the source becomes. `source` points into the SourceModel.
struct PlannedTensor {
  const SourceTensor* source = nullptr;
  model::GgufTensorSpec target;
  bool transpose = false;
  std::string note;  // why it is not what was asked for; "" when it is

  // The bytes of the source are those of the target.
  bool is_copy() const {
    return !transpose && !source->changes_values() && source->dtype() == target.dtype;
  }
};

struct ConversionPlan {
  model::GgufMetadata metadata;
  std::vector<PlannedTensor> tensors;
};

// kInvalidArgument when neuron rows are asked for and there is no ffn_down, or the source has them
// already; also for a tensor that fits no type.
Result<ConversionPlan> PlanConversion(const SourceModel& source, const ConversionOptions& options);

// "q4_k" -> kQ4_K, without regard to case. kInvalidArgument lists the types.
Result<DType> ParseWeightType(const std::string& name);

// The value of general.file_type for a model whose matrices mostly have this type.
uint32_t FileTypeOf(DType dtype);

}  // namespace thermocline::tools
