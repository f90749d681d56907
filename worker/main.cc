// thermocline-worker: holds one stage of the model and runs its steps.
#include <sys/prctl.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>

#include "base/host_info.h"
#include "base/log.h"
#include "base/str.h"
#include "worker/command_line.h"
#include "worker/flags.h"
#include "worker/launch.h"

namespace {

thermocline::worker::WorkerRequests g_requests;  // what a signal handler can reach

// A second signal of the same event (mpirun and the process group both pass it on) arrives at once;
// a person who asks again has waited.
constexpr double kAskedAgainAfter_s = 1;

// The first time in a service, the worker leaves when it can be spared; else it ends.
void OnStopSignal(int) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double now_s = static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  static volatile double asked_s = 0;  // signals of one process do not nest: the mask blocks them
  if (g_requests.leave) {
    if (now_s - asked_s > kAskedAgainAfter_s) g_requests.stop = true;
  } else if (g_requests.may_leave) {
    asked_s = now_s;
    g_requests.leave = true;
  } else {
    g_requests.stop = true;
  }
}

// Ctrl-C reaches every process of the terminal. Where the coordinator is one of them, it turns it
// into an orderly shutdown, which then reaches the workers as a message.
void InstallSignals(bool under_mpi, bool die_with_parent) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGUSR1, SIG_IGN);
  if (under_mpi || die_with_parent) std::signal(SIGINT, SIG_IGN);
  struct sigaction stop {};
  stop.sa_handler = OnStopSignal;
  sigaddset(&stop.sa_mask, SIGINT);
  sigaddset(&stop.sa_mask, SIGTERM);
  // A worker beside its coordinator is all there is: it ends with it, at once.
  if (die_with_parent) stop.sa_handler = [](int) { g_requests.stop = true; };
  sigaction(SIGTERM, &stop, nullptr);
  if (!under_mpi && !die_with_parent) sigaction(SIGINT, &stop, nullptr);
  if (die_with_parent) prctl(PR_SET_PDEATHSIG, SIGTERM);
}

std::optional<std::string> LookUp(const std::string& variable) {
  const char* value = std::getenv(variable.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

int Fail(const thermocline::Status& status) {
  using thermocline::StatusCode;
  std::fprintf(stderr, "thermocline worker on %s: %s\n", thermocline::HostName().c_str(),
               status.message().c_str());
  return status.code() == StatusCode::kInvalidArgument ? 2 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  worker::WorkerFlags flags;
  if (const auto code = worker::ParseWorkerCommandLine(argc, argv, &flags)) return *code;
  if (flags.lists_gpus) {
    for (const std::string& name : worker::ListCudaDevices()) std::puts(name.c_str());
    return 0;
  }
  auto options = worker::ResolveWorkerFlags(flags, LookUp);
  if (!options.ok()) return Fail(options.status());
  const auto level = ParseLogLevel(flags.log_level);
  if (!level.ok()) return Fail(level.status());
  LogOptions log{*level, flags.log_format == "json" ? LogFormat::kJson : LogFormat::kText,
                 Str("worker ", HostName())};
  ConfigureLog(log);
  // The control thread is the only one that logs then. A host may have several workers.
  options->on_welcome = [&log](WorkerId id) {
    log.origin = Str("worker ", id, " ", HostName());
    ConfigureLog(log);
  };
  InstallSignals(flags.under_mpi, flags.die_with_parent);
  const Status status = worker::RunWorker(*options, flags.under_mpi, g_requests);
  return status.ok() ? 0 : Fail(status);
}
