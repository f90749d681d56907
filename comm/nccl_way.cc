#include "comm/nccl_way.h"

#include <utility>

#include "base/str.h"
#include "comm/backoff.h"

namespace thermocline::comm {

Result<std::unique_ptr<NcclWay>> NcclWay::Join(const NcclLibrary& nccl, const Gpu& gpu,
                                               const Ends& ends, size_t max_bytes,
                                               TimePoint deadline) {
  std::unique_ptr<NcclWay> way(new NcclWay(gpu, ends.leads, max_bytes));
  TC_RETURN_IF_ERROR(way->Prepare());
  TC_RETURN_IF_ERROR(way->MeetPeer(nccl, ends, deadline));
  return way;
}

Status NcclWay::Prepare() {
  for (Slot& slot : slots_) {
    TC_ASSIGN_OR_RETURN(slot.memory, gpu_.Allocate(max_bytes_));
    TC_ASSIGN_OR_RETURN(slot.copied, gpu_.MakeEvent());
    TC_ASSIGN_OR_RETURN(slot.sent, gpu_.MakeEvent());
  }
  TC_ASSIGN_OR_RETURN(begun_, gpu_.MakeEvent());
  TC_ASSIGN_OR_RETURN(received_, gpu_.MakeEvent());
  TC_ASSIGN_OR_RETURN(send_stream_, gpu_.MakeStream());
  TC_ASSIGN_OR_RETURN(receive_stream_, gpu_.MakeStream());
  return OkStatus();
}

// The first payload of each direction connects the GPUs, which takes long: better now than when a
// step waits. Each end's call waits for the other's, so they go one direction after the other.
Status NcclWay::MeetPeer(const NcclLibrary& nccl, const Ends& ends, TimePoint deadline) {
  const int rank = 1 - peer_;
  std::unique_ptr<NcclComm>&from_lead = ends.leads ? out_ : in_, &to_lead = ends.leads ? in_ : out_;
  TC_ASSIGN_OR_RETURN(from_lead, NcclComm::Join(nccl, gpu_, {ends.from_lead, rank, 2}, deadline));
  TC_ASSIGN_OR_RETURN(to_lead, NcclComm::Join(nccl, gpu_, {ends.to_lead, rank, 2}, deadline));
  TC_ASSIGN_OR_RETURN(const Gpu::Memory two, gpu_.Allocate(2));
  const std::span<std::byte> bytes(static_cast<std::byte*>(two.get()), 2);
  if (ends.leads) TC_RETURN_IF_ERROR(Send(bytes.first(1), send_stream_.get(), deadline));
  TC_RETURN_IF_ERROR(Receive(bytes.last(1), receive_stream_.get(), deadline));
  if (!ends.leads) TC_RETURN_IF_ERROR(Send(bytes.first(1), send_stream_.get(), deadline));
  TC_RETURN_IF_ERROR(in_->Await(received_, deadline));
  return out_->Await(slots_.front().sent, deadline);
}

Result<bool> NcclWay::IsFree(Slot& slot) {
  if (!slot.busy) return true;
  TC_RETURN_IF_ERROR(Check());
  TC_ASSIGN_OR_RETURN(const bool sent, gpu_.HasPassed(slot.sent));
  slot.busy = !sent;
  return sent;
}

Status NcclWay::AwaitSlot(TimePoint deadline) {
  Backoff backoff;
  while (true) {
    TC_ASSIGN_OR_RETURN(const bool is_free, IsFree(slots_[next_slot_]));
    if (is_free) return OkStatus();
    if (!backoff.Pause(deadline)) {
      return DeadlineExceeded(Str("peer takes no payloads:", Kv("under_way", slots_.size()),
                                  Kv("gpu", gpu_.ordinal())));
    }
  }
}

Status NcclWay::Send(std::span<const std::byte> payload, GpuStream stream, TimePoint deadline) {
  Slot& slot = slots_[next_slot_];
  TC_RETURN_IF_ERROR(gpu_.Copy(slot.memory.get(), payload.data(), payload.size(), stream));
  TC_RETURN_IF_ERROR(gpu_.Record(slot.copied, stream));
  TC_RETURN_IF_ERROR(gpu_.Await(slot.copied, send_stream_.get()));
  TC_RETURN_IF_ERROR(
      out_->Send(slot.memory.get(), payload.size(), peer_, send_stream_.get(), deadline));
  TC_RETURN_IF_ERROR(gpu_.Record(slot.sent, send_stream_.get()));
  slot.busy = true;
  next_slot_ = (next_slot_ + 1) % slots_.size();
  return OkStatus();
}

Status NcclWay::Receive(std::span<std::byte> payload, GpuStream stream, TimePoint deadline) {
  TC_RETURN_IF_ERROR(gpu_.Record(begun_, stream));
  TC_RETURN_IF_ERROR(gpu_.Await(begun_, receive_stream_.get()));
  TC_RETURN_IF_ERROR(
      in_->Receive(payload.data(), payload.size(), peer_, receive_stream_.get(), deadline));
  TC_RETURN_IF_ERROR(gpu_.Record(received_, receive_stream_.get()));
  return gpu_.Await(received_, stream);
}

Result<bool> NcclWay::AllSent() {
  TC_RETURN_IF_ERROR(Check());
  for (Slot& slot : slots_) {
    TC_ASSIGN_OR_RETURN(const bool is_free, IsFree(slot));
    if (!is_free) return false;
  }
  return true;
}

// One direction's loss ends the other too, whose work may be on the same streams.
Status NcclWay::Check() {
  Status status = out_->Check();
  if (status.ok()) status = in_->Check();
  return status.ok() ? status : Abort(status);
}

Status NcclWay::Abort(const Status& why) {
  (void)out_->Abort(why);
  return in_->Abort(why);
}

}  // namespace thermocline::comm
