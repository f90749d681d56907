#include "tools/bench_model/shell_command.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "base/str.h"
#include "base/time_slice.h"

extern char** environ;

namespace thermocline::tools {
namespace {

// Owns a shell in a process group of its own and the reading end of its output.
class Shell {
 public:
  Shell() = default;
  Shell(const Shell&) = delete;
  Shell& operator=(const Shell&) = delete;
  ~Shell() {
    if (pipe_ >= 0) close(pipe_);
    if (pid_ > 0) Kill();
  }

  Status Start(const std::string& command);
  // Appends what comes until the output ends; false when `deadline` is earlier.
  bool ReadAll(const Clock& clock, TimePoint deadline, std::string* text);
  void Kill() {
    kill(-pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  // The exit status; -1 when the command has closed its output but goes on past `deadline`.
  int Wait(const Clock& clock, TimePoint deadline) {
    int status = 0;
    pid_t ended = 0;
    while ((ended = waitpid(pid_, &status, WNOHANG)) != pid_) {
      if (ended < 0 && errno != EINTR) break;
      if (clock.Now() > deadline) return -1;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    pid_ = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  int Spawn(const std::string& command, int output);

  pid_t pid_ = -1;
  int pipe_ = -1;
};

int Shell::Spawn(const std::string& command, int output) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::string words[] = {"sh", "-c", command};
  char* const argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  const int error = posix_spawn(&pid_, "/bin/sh", &files, &attributes, argv, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error;
}

Status Shell::Start(const std::string& command) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return Unavailable(Str("no pipe for a command: ", std::strerror(errno)));
  }
  pipe_ = ends[0];
  // Our threads' short slices are not for the program that we are compared with.
  RequestUsualSlices();
  const int error = Spawn(command, ends[1]);
  RequestShortSlices();
  close(ends[1]);
  if (error == 0) return OkStatus();
  pid_ = -1;
  return Unavailable(Str("cannot start /bin/sh: ", std::strerror(error)));
}

bool Shell::ReadAll(const Clock& clock, TimePoint deadline, std::string* text) {
  std::array<char, 64 * 1024> block;
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock.Now()).count();
    if (left <= 0) return false;
    constexpr long kMaxWaitMs = 60'000;  // poll takes an int
    pollfd wait{pipe_, POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(std::min<long>(left, kMaxWaitMs))) <= 0) continue;
    const ssize_t n = read(pipe_, block.data(), block.size());
    if (n == 0 || (n < 0 && errno != EINTR)) return true;
    if (n > 0) text->append(block.data(), static_cast<size_t>(n));
    if (text->size() > 2 * kMaxOutputBytes) text->erase(0, text->size() - kMaxOutputBytes);
  }
}

}  // namespace

Result<CommandOutput> RunShellCommand(const std::string& command, Duration timeout) {
  const SteadyClock clock;
  const TimePoint deadline = clock.Now() + timeout;
  Shell shell;
  TC_RETURN_IF_ERROR(shell.Start(command));
  CommandOutput output;
  const bool read = shell.ReadAll(clock, deadline, &output.text);
  output.exit_status = read ? shell.Wait(clock, deadline) : -1;
  if (output.exit_status < 0) {
    shell.Kill();
    return DeadlineExceeded(Str("the command did not end within ", Seconds(timeout),
                                " s; its output ends with\n", TailOf(output.text)));
  }
  if (output.text.size() > kMaxOutputBytes) {
    output.text.erase(0, output.text.size() - kMaxOutputBytes);
  }
  return output;
}

std::string TailOf(const std::string& text, int max_lines) {
  constexpr size_t kMaxLineBytes = 200;
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) lines.push_back(std::move(line));
  }
  if (lines.empty()) return "  (nothing)";
  const size_t n = std::min(lines.size(), static_cast<size_t>(max_lines));
  std::string tail;
  for (size_t i = lines.size() - n; i < lines.size(); ++i) {
    tail += Str(tail.empty() ? "  " : "\n  ", Printable(lines[i], kMaxLineBytes));
  }
  return tail;
}

std::string ShellQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace thermocline::tools
