// Measures the link to one other worker, through the very link that activations would take.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/clock.h"
#include "base/status.h"
#include "comm/link.h"
#include "proto/messages.h"
#include "worker/device_hop.h"

namespace thermocline::worker {

// What one end found out, in seconds and bytes per second.
struct LinkFigures {
  double round_trip_s = 0;  // of a small frame; of the leading end
  double bytes_per_s = 0;   // of the leading end
  double message_s = 0;     // that sending a small frame takes of this end's time
  // A large frame did not come back in time: bytes_per_s is what the link stays below.
  bool rate_is_bound = false;
  // The other end may not know of the end, and still wait: nothing came back, that or the last
  // frame.
  bool echo_waits = false;
};

// Which probe it is, and when it ends: samples are taken until `measure_until`, answers awaited
// until `give_up_at`.
struct ProbeTerms {
  uint32_t round = 0;  // that its frames bear; another one at each probe of a link
  TimePoint measure_until;
  TimePoint give_up_at;
  const std::atomic<bool>& stop;  // set: it ends soon, with kAborted
};

// A frame of any probe. It stays on a link whose probe was given up, and whoever uses the link next
// drops it: another probe knows it by its round.
bool IsProbeFrame(std::span<const std::byte> header);

// Sends small frames and large ones and waits for each to come back; at least one of each. Large
// ones are as large as it takes for their bytes to need several times as long as a small frame,
// within kMaxProbeBytes and the time there is. Ends the echo with a last frame, so that nothing is
// left on the link, unless a large one or the last one is late. kDeadlineExceeded when no small one
// comes back, and the codes of Link; kDataLoss when the other end answers with something else (one
// that is not shaped, say). Of an end whose device is apart, `hop` is a part of every way; it is
// prepared.
Result<LinkFigures> LeadProbe(comm::Link& link, const Clock& clock, const ProbeTerms& terms,
                              DeviceHop* hop = nullptr);
// Sends back what arrives, until the last frame. Codes as above.
Result<LinkFigures> EchoProbe(comm::Link& link, const Clock& clock, const ProbeTerms& terms,
                              DeviceHop* hop = nullptr);

// The first size of large frames, which a link of 10 Mbit/s brings back while streams wait; sizes
// are multiples of it.
inline constexpr size_t kFirstProbeBytes = size_t{64} << 10;
// What a chunk of a prompt weighs: 32 rows of 4096 floats. Large frames are no smaller where the
// link has time for them.
inline constexpr size_t kLeastProbeBytes = size_t{512} << 10;
// Twice what a link of 10 GbE behind a millisecond asks for. A worker that serves has this much
// more memory in use for each of the three copies of a frame.
inline constexpr size_t kMaxProbeBytes = size_t{4} << 20;

// What a probe needs from its worker; all outlive it.
struct ProbeContext {
  const Clock& clock;
  comm::DataPort& port;  // used by the probe's thread only while it lasts
  WorkerId self;
  std::span<const int> cpus;  // of a prober's thread; none: wherever the system puts it
  // Of a device that is apart, else null; with the device it is the probe's while that lasts.
  DeviceHop* hop = nullptr;
};

// Opens the link, makes the probe and reports it, or why there is none. Soon after its budget; of
// a request with patience, an echo may wait that long before.
proto::LinkReport MeasureLink(const ProbeContext& context, const proto::ProbeLink& request,
                              const std::atomic<bool>& stop);

}  // namespace thermocline::worker
