// The wire form of what messages carry of other folders: plans and profiles. For codec.cc, which
// sees Protobuf too.
#pragma once

#include "base/status.h"
#include "placement/plan.h"
#include "placement/profile.h"

namespace thermocline::wire {
class Plan;
class WorkerProfile;
}  // namespace thermocline::wire

namespace thermocline::proto {

// Put: struct -> wire. Get: wire -> struct, checked; kDataLoss names the field.
void Put(const placement::WorkerProfile& in, wire::WorkerProfile* out);
Status Get(const wire::WorkerProfile& in, placement::WorkerProfile* out);
void Put(const placement::Plan& in, wire::Plan* out);
Status Get(const wire::Plan& in, placement::Plan* out);

}  // namespace thermocline::proto
