// Payloads from one worker's GPU to another's by NCCL, one way and in order: the two ends of a
// pipe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "comm/gpu.h"
#include "comm/nccl_comm.h"

namespace thermocline::comm {

// Payloads that may be under way; then a sender waits. A pipeline has two or three.
inline constexpr int kPipeSlots = 4;

// Where the two ends meet.
struct PipePlace {
  std::string_view id;  // of NcclLibrary::MakeId at one of them
  // Ends every wait of an end with kAborted; null: nobody stops it. Outlives the end.
  const std::atomic<bool>* stop = nullptr;
};

// Owns a communicator, a stream, and slots of the GPU's memory. What is sent is copied there first,
// so that later work on the caller's stream may write to the payload while the peer is still busy.
// Step thread only. `nccl` and `gpu` outlive it.
class NcclSender {
 public:
  // Payloads have at most `max_bytes`, of which the GPU holds kPipeSlots times as much. Errors of
  // NcclComm::Join and Gpu.
  static Result<std::unique_ptr<NcclSender>> Join(const NcclLibrary& nccl, const Gpu& gpu,
                                                  const PipePlace& place, size_t max_bytes,
                                                  TimePoint deadline);

  size_t max_bytes() const { return max_bytes_; }
  // Whether a payload can be sent now; errors as Check.
  Result<bool> HasSlot();
  // There is a slot. `payload` is what it will be when earlier work on `stream` has been done.
  // `deadline` is for the call, which may have to connect first. Errors as Check.
  Status Send(std::span<const std::byte> payload, GpuStream stream, TimePoint deadline);
  // The first error so far, of a peer or a GPU that is gone among others. Does not wait.
  Status Check() { return comm_->Check(); }
  // Gives up what is under way, so that streams come free.
  Status Abort(Status why) { return comm_->Abort(std::move(why)); }

 private:
  struct Slot {
    Gpu::Memory memory;
    Gpu::Event copied;
    Gpu::Event sent;
    bool busy = false;
  };

  NcclSender(const Gpu& gpu, size_t max_bytes) : gpu_(gpu), max_bytes_(max_bytes) {}
  Status Prepare();

  const Gpu& gpu_;
  const size_t max_bytes_;
  std::array<Slot, kPipeSlots> slots_;
  size_t next_slot_ = 0;
  Gpu::Stream stream_;
  // Before all of the above it ends, or gives up, what is under way.
  std::unique_ptr<NcclComm> comm_;
};

// The other end. Step thread only.
class NcclReceiver {
 public:
  static Result<std::unique_ptr<NcclReceiver>> Join(const NcclLibrary& nccl, const Gpu& gpu,
                                                    const PipePlace& place, TimePoint deadline);

  // The next payload, which comes after earlier work on `stream` and before later work. Its size is
  // the one that was sent.
  Status Receive(std::span<std::byte> payload, GpuStream stream, TimePoint deadline);
  // As NcclSender.
  Status Check() { return comm_->Check(); }
  Status Abort(Status why) { return comm_->Abort(std::move(why)); }

 private:
  explicit NcclReceiver(std::unique_ptr<NcclComm> comm) : comm_(std::move(comm)) {}

  const std::unique_ptr<NcclComm> comm_;
};

}  // namespace thermocline::comm
