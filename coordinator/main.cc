// thermocline-coordinator: `thermocline serve`. Parses, validates, constructs, runs.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <string>

#include "base/log.h"
#include "coordinator/command_line.h"
#include "coordinator/flags.h"
#include "coordinator/launch.h"

namespace {

thermocline::coordinator::StopRequests g_requests;  // what a signal handler can reach

// A second signal of the same event (mpirun and the process group both pass it on) arrives at once;
// a person who asks again has waited.
constexpr double kAskedAgainAfter_s = 1;

void OnStopSignal(int) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double now_s = static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  static volatile double first_s = 0;  // signals of one process do not nest: the mask blocks them
  if (g_requests.stop == 0) {
    first_s = now_s;
  } else if (now_s - first_s > kAskedAgainAfter_s) {
    _exit(130);  // no more patience
  }
  g_requests.stop = 1;
}

void InstallSignals() {
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction stop {};
  stop.sa_handler = OnStopSignal;
  sigaddset(&stop.sa_mask, SIGINT);
  sigaddset(&stop.sa_mask, SIGTERM);
  sigaction(SIGINT, &stop, nullptr);
  sigaction(SIGTERM, &stop, nullptr);
  std::signal(SIGUSR1, [](int) { g_requests.drain = 1; });
}

std::optional<std::string> LookUp(const std::string& variable) {
  const char* value = std::getenv(variable.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

std::string OwnFolder() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  const std::string full(path, n > 0 ? static_cast<size_t>(n) : 0);
  return full.substr(0, full.rfind('/'));
}

void Report(const thermocline::Status& status) {
  std::fprintf(stderr, "thermocline serve: %s\n", status.message().c_str());
}

int ExitCode(const thermocline::Status& status) {
  using thermocline::StatusCode;
  if (status.ok()) return 0;
  const bool input = status.code() == StatusCode::kInvalidArgument ||
                     status.code() == StatusCode::kNotFound ||
                     status.code() == StatusCode::kDataLoss;
  return input ? 2 : 1;
}

int Fail(const thermocline::Status& status) {
  Report(status);
  return ExitCode(status);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  coordinator::ServeFlags flags;
  if (const auto code = coordinator::ParseServeCommandLine(argc, argv, &flags)) return *code;
  const auto level = ParseLogLevel(flags.log_level);
  if (!level.ok()) return Fail(level.status());
  ConfigureLog({*level, flags.log_format == "json" ? LogFormat::kJson : LogFormat::kText, ""});
  const auto config = coordinator::ResolveServeFlags(flags, LookUp);
  if (!config.ok()) return Fail(config.status());
  InstallSignals();
  return ExitCode(coordinator::RunCoordinator(flags, *config, OwnFolder(), g_requests, Report));
}
