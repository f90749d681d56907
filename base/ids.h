// Distinct integer types for the things that are numbered, so that they cannot be swapped.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <ostream>

namespace thermocline {

template <typename Tag>
struct Id {
  uint64_t value = 0;
  friend auto operator<=>(const Id&, const Id&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Id& id) { return out << id.value; }
};

using WorkerId =
    Id<struct WorkerIdTag>;         // index of a worker in the cluster; MPI rank when there is one
using SeqId = Id<struct SeqIdTag>;  // one sequence (a request has one per choice)
using StepId = Id<struct StepIdTag>;        // one batch through all stages, ascending
using Epoch = Id<struct EpochTag>;          // generation of the plan
using RequestId = Id<struct RequestIdTag>;  // one accepted request

}  // namespace thermocline

template <typename Tag>
struct std::hash<thermocline::Id<Tag>> {
  size_t operator()(const thermocline::Id<Tag>& id) const noexcept {
    return std::hash<uint64_t>()(id.value);
  }
};
