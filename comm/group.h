// Collectives among the members of one stage: the lead's activations go out to all, their partial
// sums are added and come back to all. Members with GPUs keep their data there.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "comm/gpu.h"
#include "comm/nccl_comm.h"

namespace thermocline::comm {

// Every member calls the same operations, as far as they concern it, in the same order with data of
// the same size. After an
// error the group is of no more use, and every later call gives that error: make another, with new
// links or a new place to meet, at the next epoch. Step thread only.
//
// Where data is on a GPU an operation is put on `stream`: it begins when earlier work there has
// been done, and later work there sees what came of it. The call may return before that, and its
// deadline is for what it waits for itself; Await is for the rest. Where data is in the host's
// memory streams are not looked at, and an operation is done when the call returns.
class Group {
 public:
  virtual ~Group() = default;
  virtual int n_members() const = 0;
  // 0 is the lead.
  virtual int self() const = 0;

  // Gives every member the lead's bytes. kUnavailable: a member is gone; kDeadlineExceeded;
  // kDataLoss: a member sent another size, where that can be told.
  virtual Status Broadcast(std::span<std::byte> data, GpuStream stream, TimePoint deadline) = 0;

  // Replaces every member's `data`, the same number of values, by the sum over the members. The
  // same members get the same bits from run to run; each implementation says in which order they
  // are added. Sums of F32 values differ by no bit, whatever the order, as long as F64 holds them.
  // Errors as Broadcast.
  virtual Status Sum(std::span<double> data, GpuStream stream, TimePoint deadline) = 0;

  // Between the lead and one other member, called by these two only: the member's bytes, which the
  // lead gets. Errors as Broadcast. Of the lead, which names the member (1 or more):
  virtual Status Receive(int member, std::span<std::byte> data, GpuStream stream,
                         TimePoint deadline) = 0;
  // Of the member:
  virtual Status Send(std::span<const std::byte> data, GpuStream stream, TimePoint deadline) = 0;

  // Returns when all work on `stream` has been done, of the group and otherwise. Errors as
  // Broadcast; a GPU that failed is kUnavailable.
  virtual Status Await(GpuStream stream, TimePoint deadline) = 0;

  // The first error so far, also one that was found in the background. Does not wait.
  virtual Status Check() = 0;
  // Gives up what is under way, so that its streams come free; every call gives `why` from now on,
  // or the error that came before it.
  virtual Status Abort(Status why) = 0;
};

// Data on GPUs that NCCL moves, over NVLink or PCIe as it finds; one GPU per member. Waits until
// all members have come to `place`, whose ranks are the members; errors of NcclComm::Join. `nccl`
// and `gpu` outlive the group.
//
// Sums are added in the order of NCCL's ring, each element beginning at a member that follows from
// its place and the size. The same bits are promised from run to run for the same members in the
// same order on the same GPUs and wires, with one version and environment of NCCL
// (NcclLibrary::Load), not for others; of two members any order gives the same.
Result<std::unique_ptr<Group>> MakeNcclGroup(const NcclLibrary& nccl, const Gpu& gpu,
                                             const NcclPlace& place, TimePoint deadline);

}  // namespace thermocline::comm
