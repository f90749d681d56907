// What the GPUs of one stage do together, put in the order of each one's work: x goes out from the
// lead, sums are added.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "comm/group.h"
#include "worker/part_key.h"

namespace thermocline::worker {

// Owns the group. Every member puts the same operations on its device's stream, in the order in
// which the lead puts them there; the lead tells each before it comes, and sections of a
// ReadyQueue keep those of several batches apart. Step thread only.
class StageGroup {
 public:
  // Of the lead: says to the other members that rows of a layer come next. May return before they
  // know.
  using Announce = std::function<Status(PartKey key, int64_t n_rows)>;

  // `stream` is that of the device whose memory the values lie in. `announce` is null but at the
  // lead. The clock outlives it.
  StageGroup(std::unique_ptr<comm::Group> group, comm::GpuStream stream, const Clock& clock,
             Announce announce = nullptr);

  // x[n_rows, n_embd] from the lead's to everybody's; each gives its own view. Errors of the group.
  Status Broadcast(PartKey key, TensorView x);
  // Replaces x by the sum over the members.
  Status Sum(TensorView x);

  // The first error of the group, of a member that is gone among others. Does not wait.
  Status Check() { return group_->Check(); }
  // Gives up what is under way, so that the stream comes free.
  Status Abort(Status why) { return group_->Abort(std::move(why)); }
  int n_members() const { return group_->n_members(); }

 private:
  const std::unique_ptr<comm::Group> group_;
  const comm::GpuStream stream_;
  const Clock& clock_;
  const Announce announce_;
};

}  // namespace thermocline::worker
