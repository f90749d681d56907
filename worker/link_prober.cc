#include "worker/link_prober.h"

#include <pthread.h>

#include <utility>

#include "base/cpu_list.h"
#include "base/log.h"

namespace thermocline::worker {
namespace {

// The step thread will run there too.
void RunOnFirstOf(std::span<const int> cpus) {
  const Status pinned = RunOn(cpus);
  if (!pinned.ok()) LogDebug("worker", pinned.message());
}

}  // namespace

LinkProber::LinkProber(const ProbeContext& context, proto::ProbeLink request,
                       std::function<void()> on_done)
    : thread_([this, context, request = std::move(request), on_done = std::move(on_done)] {
        pthread_setname_np(pthread_self(), "tc-probe");
        RunOnFirstOf(context.cpus);
        proto::LinkReport report = MeasureLink(context, request, stop_);
        {
          const MutexLock lock(mutex_);
          report_ = std::move(report);
        }
        on_done();
      }) {}

LinkProber::~LinkProber() {
  stop_ = true;
  thread_.join();
}

std::optional<proto::LinkReport> LinkProber::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(report_, std::nullopt);
}

}  // namespace thermocline::worker
