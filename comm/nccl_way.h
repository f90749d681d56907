// How payloads go from one GPU to another by NCCL; a device link's own.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "comm/device_link.h"
#include "comm/gpu.h"
#include "comm/nccl_comm.h"

namespace thermocline::comm {

// Owns a communicator and a stream for each direction: of one communicator NCCL does one operation
// after the other, so that two ends that both send first would wait for each other in vain. One
// thread at a time.
class NcclWay {
 public:
  // Two places to meet; `leads` at one end only. `nccl` and `gpu` outlive it.
  struct Ends {
    std::string_view from_lead, to_lead;
    bool leads = false;
  };
  static Result<std::unique_ptr<NcclWay>> Join(const NcclLibrary& nccl, const Gpu& gpu,
                                               const Ends& ends, size_t max_bytes,
                                               TimePoint deadline);

  size_t max_bytes() const { return max_bytes_; }
  // Until a payload can be sent; kDeadlineExceeded when the peer takes none.
  Status AwaitSlot(TimePoint deadline);
  // After AwaitSlot. Copies the payload in the order of `stream` and sends the copy.
  Status Send(std::span<const std::byte> payload, GpuStream stream, TimePoint deadline);
  // `payload` is there for later work on `stream`.
  Status Receive(std::span<std::byte> payload, GpuStream stream, TimePoint deadline);
  // Whether everything that was sent has been taken. Errors as Check.
  Result<bool> AllSent();
  // Errors of the peer or a GPU, found in the background.
  Status Check();
  Status Abort(const Status& why);

 private:
  struct Slot {
    Gpu::Memory memory;
    Gpu::Event copied;
    Gpu::Event sent;
    bool busy = false;
  };

  NcclWay(const Gpu& gpu, bool leads, size_t max_bytes)
      : gpu_(gpu), peer_(leads ? 1 : 0), max_bytes_(max_bytes) {}
  Status Prepare();
  Status MeetPeer(const NcclLibrary& nccl, const Ends& ends, TimePoint deadline);
  Result<bool> IsFree(Slot& slot);

  const Gpu& gpu_;
  const int peer_;  // its rank
  const size_t max_bytes_;
  std::array<Slot, kDeviceLinkSlots> slots_;
  size_t next_slot_ = 0;
  Gpu::Event begun_, received_;
  Gpu::Stream send_stream_, receive_stream_;
  // Before all of the above they end, or give up, what is under way.
  std::unique_ptr<NcclComm> out_, in_;
};

}  // namespace thermocline::comm
