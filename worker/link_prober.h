// Measures the link to one other worker, through the very link that activations would take.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "comm/link.h"
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

// Sends small frames and large ones and waits for each to come back; at least three and one of
// them. Ends the echo with a last frame, so that nothing is left on the link. The codes of Link;
// kDataLoss when the other end answers with something else (one that is not shaped, say).
Result<LinkFigures> LeadProbe(comm::Link& link, const Clock& clock,
                              const ProbeDeadlines& deadlines);
// Sends back what arrives, until the last frame. Codes as above.
Result<LinkFigures> EchoProbe(comm::Link& link, const Clock& clock,
                              const ProbeDeadlines& deadlines);

// What a prober needs from its worker; all outlive it.
struct ProbeContext {
  const Clock& clock;
  comm::DataPort& port;  // used by the prober's thread only while it lives
  WorkerId self;
  std::span<const int> cpus;  // to run on; none: wherever the system puts it
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
