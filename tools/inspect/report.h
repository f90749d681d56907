// What `inspect` tells about a model file, and how it is printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/gguf.h"
#include "tools/inspect/densities.h"
#include "tools/inspect/machine_rates.h"
#include "tools/inspect/roofline.h"
#include "tools/inspect/tensor_groups.h"

namespace thermocline::tools {

// One step in one FFN mode.
struct StepReport {
  std::string title;  // "decode, dense"
  std::string key;    // of JSON: "decode_dense"
  StepCost cost;
};

// Of a model that this version can run.
struct RunnableModel {
  model::ModelConfig config;
  bool has_predictors = false;
  Densities densities;
  // Why the profile beside it cannot be used; "" when it can, or none is there.
  std::string profile_note;
  std::vector<StepReport> steps;
};

struct InspectReport {
  std::string path;
  uint64_t file_bytes = 0;
  std::string format;  // "GGUF 3", "PWRI 3"
  std::string architecture;
  std::string name;
  std::string tokenizer;  // "llama", "gpt2 (llama-bpe)", "none"
  bool has_chat_template = false;
  std::string fingerprint;
  int i_part = 0, n_parts = 1;  // of a model that is split over several files
  std::vector<TensorGroup> groups;
  std::vector<LayerGroup> layers;
  std::vector<model::TensorInfo> tensors;  // when asked for
  std::optional<RunnableModel> runnable;
  std::string why_not_runnable;  // "" when it is
  std::optional<MachineRates> rates;
  int64_t n_context = 0;
};

std::string InspectText(const InspectReport& report);
std::string InspectJson(const InspectReport& report);

}  // namespace thermocline::tools
