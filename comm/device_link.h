// Ordered frames between two workers whose payload lies in GPUs' memory at both ends, along a Link
// that joins the same two.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "comm/gpu.h"
#include "comm/link.h"
#include "comm/nccl_library.h"

namespace thermocline::comm {

// A frame to receive: room for its payload, and then what came.
struct DeviceFrame {
  std::span<std::byte> room;      // in the GPU's memory
  std::vector<std::byte> header;  // reused, so that a warm step does not allocate
  size_t payload_bytes = 0;       // at the beginning of `room`
};

// Both directions between this worker and one peer. Step thread only. Headers and small news go
// along the host's link at once; payloads follow in the order of streams, either by NCCL or staged:
// copied to the host and sent along its link too.
class DeviceLink {
 public:
  virtual ~DeviceLink() = default;
  virtual WorkerId peer() const = 0;
  virtual LinkStats stats() const = 0;
  // Payloads of so many bytes and more go by NCCL; SIZE_MAX: none do.
  virtual size_t nccl_from_bytes() const = 0;
  // `payload` is what it will be when earlier work on `stream` has been done; later work there may
  // write to it again. A payload that is staged is waited for. Errors as Link::Send, and
  // kUnavailable when a GPU is lost.
  virtual Status Send(std::span<const std::byte> header, std::span<const std::byte> payload,
                      GpuStream stream, TimePoint deadline) = 0;
  // The next frame if its header has come, else false. Its payload comes after earlier work on
  // `stream` and before later work. Errors as Link::TryReceive; kDataLoss when it has no room.
  virtual Result<bool> TryReceive(DeviceFrame* frame, GpuStream stream) = 0;
  // The same, with a wait for the header; kDeadlineExceeded.
  Status Receive(DeviceFrame* frame, GpuStream stream, TimePoint deadline);
  // Moves on what is under way, without waiting; true when all that was sent has been taken over.
  virtual Result<bool> Flush() = 0;
  // Returns when all work on `stream` has been done. When it is not in time, or the peer or a GPU
  // is lost, payloads under way are given up, so that the streams come free.
  virtual Status Await(GpuStream stream, TimePoint deadline) = 0;
};

struct DeviceLinkOptions {
  // The two ends differ in this; the one that leads makes the places to meet.
  bool leads = false;
  // The largest payload that goes by NCCL; larger ones are staged. The GPU holds kDeviceLinkSlots
  // times that for each link.
  size_t max_nccl_bytes = size_t{4} << 20;
  // See DeviceLink; not given: the ends measure which way is faster from what size on. Either both
  // ends give the same or neither gives any.
  std::optional<size_t> nccl_from_bytes;
};

// Payloads that may be under way by NCCL; then Send waits. A pipeline has two or three.
inline constexpr int kDeviceLinkSlots = 4;

// `host` joins the same two workers and carries nothing else from now on; it, `gpu` and `nccl`
// outlive the link. Both ends call it at the same time, and by `deadline` have met and measured.
// Where either end has no `nccl` (null) all payloads are staged. Errors as DeviceLink, and
// kDataLoss when the other end is no device link.
Result<std::unique_ptr<DeviceLink>> MakeDeviceLink(Link& host, const Gpu& gpu,
                                                   const NcclLibrary* nccl,
                                                   const DeviceLinkOptions& options,
                                                   TimePoint deadline);

}  // namespace thermocline::comm
