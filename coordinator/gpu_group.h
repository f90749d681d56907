// Which GPUs of a plan reach each other by NCCL: members of a stage, that add their sums without
// the host, and stages that follow each other, that pass activations on.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "placement/plan.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

struct GpuGroup {
  std::vector<int> helpers;  // of the stage, ascending, that are in it with the lead
  // Why other helpers on GPUs are not, and what of the group's goes by way of the hosts; for
  // people.
  std::vector<std::string> notes;
};

// What a worker has said of itself; null: it is not here.
using HelloOf = std::function<const proto::Hello*(WorkerId)>;

// Helpers on GPUs whose lead is on one too, each on a card of its own, with NCCL of the lead's
// version: those with neurons, or all where none has any (placement::GroupOf).
GpuGroup FindGpuGroup(const placement::StagePlan& stage, const HelloOf& hello);

struct GpuLink {
  std::string nccl_id;  // where the two meet; "": activations go by way of the hosts
  std::string note;     // why, where both are on GPUs; for people
};

// From the lead of stage `i`, which is not the last, to the next one's: both on cards of their own,
// with NCCL of one version, and activations that travel as they are.
GpuLink FindGpuLink(const placement::Plan& plan, size_t i, const HelloOf& hello);

}  // namespace thermocline::coordinator
