// A probe of a link in a thread of its own, for a worker whose step thread does not run.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <thread>

#include "base/mutex.h"
#include "proto/messages.h"
#include "worker/link_probe.h"

namespace thermocline::worker {

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
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::optional<proto::LinkReport> report_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace thermocline::worker
