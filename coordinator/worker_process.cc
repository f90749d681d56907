#include "coordinator/worker_process.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>

#include "base/str.h"
#include "comm/endpoints.h"

extern char** environ;

namespace thermocline::coordinator {
namespace {

// A worker that was told to shut down needs a few ms; one that was not gets a signal after this.
constexpr Duration kPatience = std::chrono::seconds(1);
constexpr Duration kPollInterval = std::chrono::milliseconds(5);

bool IsOfMpiLaunch(std::string_view variable) {
  for (const std::string_view prefix : {"OMPI_", "PMIX_", "PMI_", "PRTE_"}) {
    if (variable.starts_with(prefix)) return true;
  }
  return false;
}

std::vector<std::string> ChildEnvironment(const comm::JoinTicket& ticket) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!IsOfMpiLaunch(*variable)) variables.emplace_back(*variable);
  }
  variables.push_back("THERMOCLINE_CLUSTER_KEY=" + ticket.key.ToString());
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string DescribeEnd(int status) {
  if (WIFEXITED(status)) return Str("exited with code ", WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return Str("was killed by signal ", WTERMSIG(status));
  return "ended";
}

}  // namespace

Result<WorkerProcess> WorkerProcess::Start(const std::string& program,
                                           const comm::JoinTicket& ticket,
                                           const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {program, "--die-with-parent", "--join",
                                   comm::JoinEndpoints(ticket.endpoints)};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = ChildEnvironment(ticket);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, program.c_str(), nullptr, nullptr, Pointers(argv).data(),
                                Pointers(environment).data());
  if (error != 0) {
    return Unavailable(Str("cannot start a worker: ", program, ": ", std::strerror(error)));
  }
  return WorkerProcess(pid);
}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), how_it_ended_(std::move(other.how_it_ended_)) {}

WorkerProcess::~WorkerProcess() {
  if (pid_ < 0 || WaitFor(kPatience)) return;
  kill(pid_, SIGTERM);
  if (WaitFor(kPatience)) return;
  kill(pid_, SIGKILL);
  WaitFor(kPatience);
}

bool WorkerProcess::WaitFor(Duration patience) {
  for (Duration waited{0}; waited < patience; waited += kPollInterval) {
    if (Ended()) return true;
    std::this_thread::sleep_for(kPollInterval);
  }
  return Ended().has_value();
}

std::optional<std::string> WorkerProcess::Ended() {
  if (pid_ >= 0) {
    int status = 0;
    const pid_t reaped = waitpid(pid_, &status, WNOHANG);
    if (reaped == 0) return std::nullopt;
    how_it_ended_ = reaped == pid_ ? DescribeEnd(status) : "was reaped elsewhere";
    pid_ = -1;
  }
  return how_it_ended_;
}

}  // namespace thermocline::coordinator
