// What the GPUs of one stage do together, put in the order of each one's work: x goes out from the
// lead, sums are added.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "comm/group.h"
#include "kernels/operands.h"
#include "worker/batch_run.h"
#include "worker/part_key.h"
#include "worker/peer_device.h"

namespace thermocline::worker {

// Of the lead: how the other members hear what comes next.
class GroupNews {
 public:
  virtual ~GroupNews() = default;
  // Rows of a layer, and what they are. May return before they know.
  virtual Status Announce(PartKey key, int64_t n_rows, const BatchRows& rows) = 0;
  // Moves on what was announced, without waiting.
  virtual Status Flush() = 0;
};

// Owns the group. Every member puts the same operations on its device's stream, in the order in
// which the lead puts them there; the lead tells each before it comes, and sections of a
// ReadyQueue keep those of several batches apart. Step thread only.
class StageGroup final : public PeerWork {
 public:
  // `stream` is that of the device whose memory the values lie in. `news` is null but at the lead;
  // it and the clock outlive the group.
  StageGroup(std::unique_ptr<comm::Group> group, comm::GpuStream stream, const Clock& clock,
             GroupNews* news = nullptr)
      : group_(std::move(group)), stream_(stream), clock_(clock), news_(news) {}

  // x[n_rows, n_embd] from the lead's to everybody's; each gives its own view. `rows` are the
  // lead's to tell. Errors of the group.
  Status Broadcast(PartKey key, TensorView x, const BatchRows& rows);
  // Replaces sums by those over the members.
  Status Sum(kernels::SumsView sums);
  // Values of one member, dense, to the lead: of the lead, which gives their place, and of that
  // one.
  Status Receive(int member, TensorView y);
  Status Send(TensorView y);

  std::string peers() const override;
  // Moves on what the others are told, too.
  Status Check() override;
  Status Abort(Status why) override { return group_->Abort(std::move(why)); }

 private:
  const std::unique_ptr<comm::Group> group_;
  const comm::GpuStream stream_;
  const Clock& clock_;
  GroupNews* const news_;
};

}  // namespace thermocline::worker
