// A communicator of NCCL: the members of a group, or the two ends of a link, each with its GPU.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "comm/gpu.h"
#include "comm/nccl_library.h"

namespace thermocline::comm {

// Which member of a communicator one is, and where all of them meet.
struct NcclPlace {
  std::string_view id;  // of NcclLibrary::MakeId at one of them
  int rank = 0;
  int n_ranks = 1;
  // Ends every wait of the communicator with kAborted; null: nobody stops it. Outlives it.
  const std::atomic<bool>* stop = nullptr;
};

// Owns a communicator. Every call that moves data puts it on a stream of its GPU, in the same order
// at every member, and returns; Check tells whether all is well. After an error it is aborted: what
// is under way ends without a result, and every later call gives that error. One thread at a time.
class NcclComm {
 public:
  // Waits until all members have come. kInvalidArgument: no place; kDeadlineExceeded: not all came;
  // errors of NcclLibrary and Gpu. `nccl` and `gpu` outlive it.
  static Result<std::unique_ptr<NcclComm>> Join(const NcclLibrary& nccl, const Gpu& gpu,
                                                const NcclPlace& place, TimePoint deadline);
  // Lets what is under way finish for a moment, else aborts it.
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;

  // `deadline` is for the call, which may have to connect first, not for what it puts on `stream`.
  Status Sum(void* data, size_t n_elems, NcclType type, GpuStream stream, TimePoint deadline);
  Status Broadcast(void* data, size_t n_bytes, int root, GpuStream stream, TimePoint deadline);
  Status Send(const void* data, size_t n_bytes, int peer, GpuStream stream, TimePoint deadline);
  Status Receive(void* data, size_t n_bytes, int peer, GpuStream stream, TimePoint deadline);

  // The first error so far, of a peer's end among others. Does not wait.
  Status Check();
  // Returns when `event`, which was recorded after what was put on a stream, has passed. Errors as
  // Check; kDeadlineExceeded aborts too, for what is under way may never end.
  Status Await(const Gpu::Event& event, TimePoint deadline);
  // Ends what is under way, with this error from now on.
  Status Abort(Status why);

  const Gpu& gpu() const { return gpu_; }

 private:
  NcclComm(const NcclLibrary& nccl, const Gpu& gpu, const std::atomic<bool>* stop)
      : nccl_(nccl), gpu_(gpu), stop_(stop) {}
  // What came of a call that may go on in NCCL's own thread.
  Status Settle(int code, std::string_view what, TimePoint deadline);
  bool is_stopped() const { return stop_ != nullptr && *stop_; }
  template <typename Call>
  Status Run(std::string_view what, TimePoint deadline, Call call);

  const NcclLibrary& nccl_;
  const Gpu& gpu_;
  const std::atomic<bool>* stop_;
  NcclHandle handle_ = nullptr;  // null: none yet, or aborted
  Status broken_;
};

}  // namespace thermocline::comm
