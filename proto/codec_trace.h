// The wire form of what is said for a trace: times of clocks, and what a worker did when. For
// codec.cc, which sees Protobuf too.
#pragma once

#include "base/status.h"
#include "proto/messages.h"

namespace thermocline::wire {
class ClockEcho;
class ClockProbe;
class TraceSpans;
}  // namespace thermocline::wire

namespace thermocline::proto {

// Put: struct -> wire. Get: wire -> struct, checked; kDataLoss names the field.
void Put(const ClockProbe& in, wire::ClockProbe* out);
Status Get(const wire::ClockProbe& in, ClockProbe* out);
void Put(const ClockEcho& in, wire::ClockEcho* out);
Status Get(const wire::ClockEcho& in, ClockEcho* out);
void Put(const TraceSpans& in, wire::TraceSpans* out);
Status Get(const wire::TraceSpans& in, TraceSpans* out);

}  // namespace thermocline::proto
