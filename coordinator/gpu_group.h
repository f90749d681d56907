// Which members of a stage can be a group of GPUs, that add their sums without the host.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "placement/plan.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

struct GpuGroup {
  std::vector<int> helpers;        // of the stage, ascending, that are in it with the lead
  std::vector<std::string> notes;  // why other helpers on GPUs are not; for people
};

// All helpers on GPUs whose lead is on one too, each on a card of its own, with NCCL of the lead's
// version. `hello` tells what a worker has said of itself; null: it is not here.
GpuGroup FindGpuGroup(const placement::StagePlan& stage,
                      const std::function<const proto::Hello*(WorkerId)>& hello);

}  // namespace thermocline::coordinator
