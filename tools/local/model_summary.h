// A model in one line of a report.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"
#include "worker/assignment.h"

namespace thermocline::tools {

struct ModelSummary {
  std::string path;
  std::string name;  // of the file's metadata, else the file's name
  std::string arch;
  uint64_t n_params = 0;
  uint64_t weight_bytes = 0;
  DType main_dtype = DType::kF32;  // the type of most bytes
};

ModelSummary SummaryOf(const std::string& path, const worker::LoadedModel& model);

// "870.3 M", "7.2 B".
std::string FormatParams(uint64_t n_params);

}  // namespace thermocline::tools
