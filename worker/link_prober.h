// Measures the link to one other worker, through the very link that activations would take.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <thread>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "comm/link.h"
#include "kernels/device.h"
#include "proto/messages.h"

namespace thermocline::worker {

// What one end found out, in seconds and bytes per second.
struct LinkFigures {
  double round_trip_s = 0;  // of a small frame; of the leading end
  double bytes_per_s = 0;   // of the leading end
  double message_s = 0;     // that sending a small frame takes of this end's time
};

// When a probe ends: samples are taken until `measure_until`, answers awaited until `give_up_at`.
struct ProbeDeadlines {
  TimePoint measure_until;
  TimePoint give_up_at;
  const std::atomic<bool>& stop;  // set: it ends soon, with kAborted
};

// The way between the host and a device with memory of its own, which what is sent and received
// takes too. One thread.
class DeviceHop {
 public:
  // Room for frames of n_bytes. kResourceExhausted without memory for them.
  static Result<DeviceHop> Create(kernels::Device& device, uint64_t n_bytes);
  // From the device to the host, and back, as far as there is room; at least a value. Returns when
  // it is done. kUnavailable when the device is lost.
  Status Out(uint64_t n_bytes);
  Status In(uint64_t n_bytes);

 private:
  explicit DeviceHop(kernels::Device& device) : device_(&device) {}
  uint64_t Copied(uint64_t n_bytes) const;

  kernels::Device* device_;
  Buffer on_device_, on_host_;
};

// Sends small frames and large ones and waits for each to come back; at least three and one of
// them. Ends the echo with a last frame, so that nothing is left on the link. The codes of Link;
// kDataLoss when the other end answers with something else (one that is not shaped, say).
// Of an end whose device is apart, `hop` is a part of every way.
Result<LinkFigures> LeadProbe(comm::Link& link, const Clock& clock, const ProbeDeadlines& deadlines,
                              DeviceHop* hop = nullptr);
// Sends back what arrives, until the last frame. Codes as above.
Result<LinkFigures> EchoProbe(comm::Link& link, const Clock& clock, const ProbeDeadlines& deadlines,
                              DeviceHop* hop = nullptr);

// What a prober needs from its worker; all outlive it.
struct ProbeContext {
  const Clock& clock;
  comm::DataPort& port;  // used by the prober's thread only while it lives
  WorkerId self;
  std::span<const int> cpus;  // to run on; none: wherever the system puts it
  // Null, or what computes here: the prober's thread's while it lives.
  kernels::Device* device = nullptr;
};

// Owns one thread, which makes one probe: the control thread has heartbeats to send meanwhile, and
// MPI wants one thread at a time. Created, asked and destroyed by the control thread.
class LinkProber {
 public:
  // `on_done` is called on the prober's thread once the report can be taken.
  LinkProber(const ProbeContext& context, proto::ProbeLink request, std::function<void()> on_done);
  ~LinkProber();

  // The report, once; nullopt before it is there.
  std::optional<proto::LinkReport> Take();

 private:
  Result<LinkFigures> Probe(const ProbeContext& context, const proto::ProbeLink& request) const;

  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::optional<proto::LinkReport> report_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace thermocline::worker
