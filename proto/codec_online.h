// The wire form of what is said while plans change: who leaves, where neurons stand, how often they
// fire. For codec.cc, which sees Protobuf too.
#pragma once

#include "base/status.h"
#include "proto/messages.h"

namespace thermocline::wire {
class FiringCounts;
class Leaving;
class NeuronTable;
class LinkLost;
class Stay;
}  // namespace thermocline::wire

namespace thermocline::proto {

// Put: struct -> wire. Get: wire -> struct, checked; kDataLoss names the field.
void Put(const Leaving& in, wire::Leaving* out);
Status Get(const wire::Leaving& in, Leaving* out);
void Put(const LinkLost& in, wire::LinkLost* out);
Status Get(const wire::LinkLost& in, LinkLost* out);
void Put(const Stay& in, wire::Stay* out);
Status Get(const wire::Stay& in, Stay* out);
void Put(const NeuronTable& in, wire::NeuronTable* out);
Status Get(const wire::NeuronTable& in, NeuronTable* out);
void Put(const FiringCounts& in, wire::FiringCounts* out);
Status Get(const wire::FiringCounts& in, FiringCounts* out);

}  // namespace thermocline::proto
