#include "comm/nccl_pipe.h"

#include <utility>

#include "base/check.h"

namespace thermocline::comm {
namespace {

// The ranks of a pipe's communicator.
constexpr int kSenderRank = 0;
constexpr int kReceiverRank = 1;

Result<std::unique_ptr<NcclComm>> JoinAs(int rank, const NcclLibrary& nccl, const Gpu& gpu,
                                         const PipePlace& place, TimePoint deadline) {
  return NcclComm::Join(nccl, gpu, {.id = place.id, .rank = rank, .n_ranks = 2, .stop = place.stop},
                        deadline);
}

}  // namespace

Result<std::unique_ptr<NcclSender>> NcclSender::Join(const NcclLibrary& nccl, const Gpu& gpu,
                                                     const PipePlace& place, size_t max_bytes,
                                                     TimePoint deadline) {
  std::unique_ptr<NcclSender> sender(new NcclSender(gpu, max_bytes));
  TC_RETURN_IF_ERROR(sender->Prepare());
  TC_ASSIGN_OR_RETURN(sender->comm_, JoinAs(kSenderRank, nccl, gpu, place, deadline));
  return sender;
}

Status NcclSender::Prepare() {
  for (Slot& slot : slots_) {
    TC_ASSIGN_OR_RETURN(slot.memory, gpu_.Allocate(max_bytes_));
    TC_ASSIGN_OR_RETURN(slot.copied, gpu_.MakeEvent());
    TC_ASSIGN_OR_RETURN(slot.sent, gpu_.MakeEvent());
  }
  TC_ASSIGN_OR_RETURN(stream_, gpu_.MakeStream());
  return OkStatus();
}

Result<bool> NcclSender::HasSlot() {
  TC_RETURN_IF_ERROR(Check());
  Slot& slot = slots_[next_slot_];
  if (!slot.busy) return true;
  TC_ASSIGN_OR_RETURN(const bool sent, gpu_.HasPassed(slot.sent));
  slot.busy = !sent;
  return sent;
}

Status NcclSender::Send(std::span<const std::byte> payload, GpuStream stream, TimePoint deadline) {
  DCHECK(payload.size() <= max_bytes_ && !slots_[next_slot_].busy);
  Slot& slot = slots_[next_slot_];
  TC_RETURN_IF_ERROR(gpu_.Copy(slot.memory.get(), payload.data(), payload.size(), stream));
  TC_RETURN_IF_ERROR(gpu_.Record(slot.copied, stream));
  TC_RETURN_IF_ERROR(gpu_.Await(slot.copied, stream_.get()));
  TC_RETURN_IF_ERROR(
      comm_->Send(slot.memory.get(), payload.size(), kReceiverRank, stream_.get(), deadline));
  TC_RETURN_IF_ERROR(gpu_.Record(slot.sent, stream_.get()));
  slot.busy = true;
  next_slot_ = (next_slot_ + 1) % slots_.size();
  return OkStatus();
}

Result<std::unique_ptr<NcclReceiver>> NcclReceiver::Join(const NcclLibrary& nccl, const Gpu& gpu,
                                                         const PipePlace& place,
                                                         TimePoint deadline) {
  TC_ASSIGN_OR_RETURN(auto comm, JoinAs(kReceiverRank, nccl, gpu, place, deadline));
  return std::unique_ptr<NcclReceiver>(new NcclReceiver(std::move(comm)));
}

Status NcclReceiver::Receive(std::span<std::byte> payload, GpuStream stream, TimePoint deadline) {
  return comm_->Receive(payload.data(), payload.size(), kSenderRank, stream, deadline);
}

}  // namespace thermocline::comm
