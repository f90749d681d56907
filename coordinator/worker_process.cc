#include "coordinator/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "comm/endpoints.h"

extern char** environ;

namespace thermocline::coordinator {
namespace {

// A worker that was told to shut down needs a few ms; one that was not gets a signal after this.
constexpr Duration kPatience = std::chrono::seconds(1);
constexpr Duration kPollInterval = std::chrono::milliseconds(5);
// A line for each of more GPUs than any machine has.
constexpr size_t kMaxGpuText = 16 << 10;

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

// What comes until the other end is closed, or patience is over.
std::string ReadAll(int fd, Duration patience) {
  const SteadyClock clock;
  const TimePoint end = clock.Now() + patience;
  std::string text(kMaxGpuText, '\0');
  size_t n_read = 0;
  while (n_read < text.size()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - clock.Now()).count();
    pollfd polled = {fd, POLLIN, 0};
    const int n_ready = left > 0 ? poll(&polled, 1, static_cast<int>(left)) : 0;
    if (n_ready < 0 && errno == EINTR) continue;
    if (n_ready == 0) {
      LogWarn("coordinator", Str("GPUs do not answer: going on with those that do;",
                                 Kv("waited_s", Seconds(patience))));
    }
    if (n_ready <= 0) break;
    const ssize_t n = read(fd, text.data() + n_read, text.size() - n_read);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    n_read += static_cast<size_t>(n);
  }
  text.resize(n_read);
  return text;
}

// Lets a child end, and ends it; one that is stuck in its driver is left alone.
void EndSoon(pid_t pid) {
  for (Duration waited{0}; waited < 2 * kPatience; waited += kPollInterval) {
    if (waitpid(pid, nullptr, WNOHANG) != 0) return;
    if (waited >= kPatience) kill(pid, SIGKILL);
    std::this_thread::sleep_for(kPollInterval);
  }
}

// Of lines that begin with "cuda:" and a number.
std::vector<int> OrdinalsIn(std::string_view text) {
  constexpr std::string_view kPrefix = "cuda:";
  std::vector<int> ordinals;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string_view::npos;
       begin = end + 1) {
    const std::string_view line = text.substr(begin, end - begin);
    int ordinal = 0;
    if (!line.starts_with(kPrefix)) continue;
    const auto parsed = std::from_chars(line.data() + kPrefix.size(), line.end(), ordinal);
    if (parsed.ec == std::errc()) ordinals.push_back(ordinal);
  }
  return ordinals;
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

std::vector<int> ListGpus(const std::string& program, Duration patience) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::vector<std::string> argv = {program, "--list-gpus"};
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, program.c_str(), &actions, nullptr, Pointers(argv).data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  const std::string text = error == 0 ? ReadAll(ends[0], patience) : "";
  close(ends[0]);
  if (error == 0) EndSoon(pid);
  return OrdinalsIn(text);
}

}  // namespace thermocline::coordinator
