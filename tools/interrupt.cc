#include "tools/interrupt.h"

#include <atomic>
#include <csignal>

namespace thermocline::tools {
namespace {

// What the signal handler can reach; a lock-free atomic may be written there ([support.signal]).
std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

}  // namespace

void CatchInterrupts() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action = {};
    if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = [](int caught) { g_signal.store(caught, std::memory_order_relaxed); };
    action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
    sigaction(signal, &action, nullptr);
  }
}

int InterruptSignal() { return g_signal.load(std::memory_order_relaxed); }

Status CheckInterrupted() {
  return InterruptSignal() == 0 ? OkStatus() : Aborted("interrupted; nothing unfinished is kept");
}

}  // namespace thermocline::tools
