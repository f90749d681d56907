#include "coordinator/launcher_watch.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>
#include <string>

#include "base/str.h"

namespace thermocline::coordinator {
namespace {

// Not orted, which is the parent of a rank 0 on another host: its mpirun is out of reach.
constexpr std::array<std::string_view, 4> kLaunchers = {"mpirun", "mpiexec", "orterun", "prterun"};

bool IsLauncher(pid_t pid) {
  std::ifstream file(Str("/proc/", pid, "/comm"));
  std::string name;
  std::getline(file, name);
  return std::find(kLaunchers.begin(), kLaunchers.end(), name) != kLaunchers.end();
}

// In a process of its own, after a fork from a process with threads: async-signal-safe calls only.
[[noreturn]] void Watch(int launcher, int patience_ms) {
  setsid();
  // mpirun waits until nobody holds the ends of its pipes.
  if (launcher > 0) syscall(SYS_close_range, 0, launcher - 1, 0);
  syscall(SYS_close_range, launcher + 1, ~0U, 0);
  pollfd ended{launcher, POLLIN, 0};
  if (poll(&ended, 1, patience_ms) == 0) {
    syscall(SYS_pidfd_send_signal, launcher, SIGKILL, nullptr, 0);
  }
  _exit(0);
}

}  // namespace

void KillStuckLauncherAfter(Duration patience) {
  const pid_t parent = getppid();
  // A descriptor means this very process, also after its number has been given to another. Held
  // before the name is read; a kernel before 5.3 has none.
  const auto launcher = static_cast<int>(syscall(SYS_pidfd_open, parent, 0));
  if (launcher < 0) return;
  const auto patience_ms = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
  if (IsLauncher(parent) && fork() == 0) Watch(launcher, static_cast<int>(patience_ms));
  close(launcher);
}

}  // namespace thermocline::coordinator
