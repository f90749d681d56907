// The worker that a coordinator launched alone starts beside itself.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "comm/join_ticket.h"

namespace thermocline::coordinator {

// Owns one child process, which also ends by itself when this process dies.
class WorkerProcess {
 public:
  // Starts `program --join ... arguments`; the key goes through the environment, where other users
  // cannot read it. Variables of an MPI launch are not passed on. kUnavailable when the program
  // cannot be started.
  static Result<WorkerProcess> Start(const std::string& program, const comm::JoinTicket& ticket,
                                     const std::vector<std::string>& arguments);
  // Ends the child: waits for `patience`, then terminates it.
  ~WorkerProcess();
  WorkerProcess(WorkerProcess&& other) noexcept;
  WorkerProcess& operator=(WorkerProcess&&) = delete;

  // How the child ended, for people; nullopt while it runs.
  std::optional<std::string> Ended();

 private:
  explicit WorkerProcess(pid_t pid) : pid_(pid) {}
  bool WaitFor(Duration patience);

  pid_t pid_ = -1;  // -1: none, or reaped
  std::string how_it_ended_;
};

// The ordinals of the GPUs that `program` can compute on here, as it tells when asked; none when it
// cannot be asked. Takes as long as starting each for a moment; of a program that takes longer than
// `patience` those that it has told until then, and it is ended.
inline constexpr Duration kGpuPatience = std::chrono::seconds(60);
std::vector<int> ListGpus(const std::string& program, Duration patience = kGpuPatience);

}  // namespace thermocline::coordinator
