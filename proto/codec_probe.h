// The wire form of what is said while links are measured. For codec.cc, which sees Protobuf too.
#pragma once

#include "base/status.h"
#include "proto/messages.h"

namespace thermocline::wire {
class LinkReport;
class ProbeLink;
}  // namespace thermocline::wire

namespace thermocline::proto {

// Put: struct -> wire. Get: wire -> struct, checked; kDataLoss names the field.
void Put(const ProbeLink& in, wire::ProbeLink* out);
Status Get(const wire::ProbeLink& in, ProbeLink* out);
void Put(const LinkReport& in, wire::LinkReport* out);
Status Get(const wire::LinkReport& in, LinkReport* out);

}  // namespace thermocline::proto
