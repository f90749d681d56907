// The settings of `thermocline inspect` as people give them.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace thermocline::tools {

struct InspectFlags {
  std::string model_path;
  bool tensors = false;  // list every tensor
  bool json = false;
  bool no_measure = false;  // bytes and FLOPs only
  int n_threads = 0;        // of the measurement; 0 = all cores
  int64_t n_context = 0;    // tokens in the context of the steps that are predicted
  double active = -1;       // share of active neurons; negative: as the profile says
};

// kInvalidArgument names the flag.
Status CheckInspectFlags(const InspectFlags& flags);

}  // namespace thermocline::tools
