// From one worker's GPU to another's without their hosts: by NCCL, over NVLink or PCIe.
#pragma once

#include <optional>

#include "placement/profile.h"

namespace thermocline::placement {

// The GPU that a worker computes on, among those of its host; null: none, or not known.
const GpuInfo* CardOf(const WorkerProfile& worker);

struct CardWay {
  double latency_s = 0;
  double bytes_per_s = 0;
  friend bool operator==(const CardWay&, const CardWay&) = default;
};

// Both compute on cards of their own of one host, whose GPUs they see alike, have NCCL of one
// version, and something is known or assumed of the way between these cards (FillGpus). Between
// hosts nothing is.
std::optional<CardWay> FindCardWay(const WorkerProfile& from, const WorkerProfile& to);

}  // namespace thermocline::placement
