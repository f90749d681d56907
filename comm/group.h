// Collectives among the members of one stage: the lead's activations go out to all, their partial
// sums come back. Built from Links in a fixed order, so that a sum has the same bits from run to
// run and whatever arrives first.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "comm/link.h"

namespace thermocline::comm {

// Every member calls the same operations in the same order. Step thread only.
class Group {
 public:
  virtual ~Group() = default;
  virtual int n_members() const = 0;
  // 0 is the lead.
  virtual int self() const = 0;

  // Gives every member the lead's bytes; `data` has the same size everywhere. Errors as Link, and
  // kDataLoss when a member sent another size.
  virtual Status Broadcast(std::span<std::byte> data, TimePoint deadline) = 0;

  // Replaces the lead's `data` by the sum over the members, added in member order: ((x0 + x1) + x2)
  // and so on. Other members' `data` stays as it is. Errors as Broadcast.
  virtual Status SumToLead(std::span<float> data, TimePoint deadline) = 0;
};

// A star around the lead. The lead gives one link per other member, in member order; every other
// member gives its link to the lead. The links outlive the group. kInvalidArgument when their
// number does not fit `self`.
Result<std::unique_ptr<Group>> MakeLinkGroup(int self, int n_members, std::vector<Link*> links);

}  // namespace thermocline::comm
