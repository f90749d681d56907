// thermocline-worker: holds one stage of the model and runs its steps.
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>

#include "base/host_info.h"
#include "base/log.h"
#include "base/str.h"
#include "worker/flags.h"
#include "worker/launch.h"

namespace {

using thermocline::worker::WorkerFlags;

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

void AddFlags(CLI::App* app, WorkerFlags* flags) {
  app->add_option("--join", flags->join,
                  "Where the coordinator listens, as it prints it: tcp://head:40123");
  app->add_option("--key", flags->key,
                  "The cluster's key; better given as THERMOCLINE_CLUSTER_KEY");
  app->add_option("-t,--threads", flags->n_threads,
                  "Compute threads (default: this worker's share of the cores)");
  app->add_option("--cpus", flags->cpus,
                  "CPUs to compute on, e.g. 0-3,8: each thread stays on one of them, and --threads "
                  "is their number unless given; workers of one mpirun on a host share the list");
  app->add_option("--device", flags->device,
                  "What computes: cpu, cuda (a GPU), cuda:1 (the second one), or auto: a GPU for "
                  "each worker of this host in order of rank while there are some, then CPUs")
      ->capture_default_str();
  app->add_option("--gpu-memory", flags->gpu_memory,
                  "GPU memory that this process may use for everything, e.g. 20G (default: 95 % of "
                  "what is free there)");
  app->add_option("--isa", flags->isa,
                  "Instruction set of the kernels: auto, or one this machine has (avx512-vnni, "
                  "avx512, avx2, sse4, neon, scalar)");
  app->add_option(
      "--memory", flags->memory,
      "Memory the plan may use here, e.g. 1.8G (default: its share of 90 % of what is free)");
  app->add_option("--cache-dir", flags->cache_dir,
                  "Where fetched weights are kept (default: ~/.cache/thermocline)");
  app->add_option("--shape", flags->shape,
                  "For experiments, the same for all workers: make links slower than they are, "
                  "e.g. latency=200us,bandwidth=1.25GB/s (also drop=0.001 and seed=7)");
  app->add_option("--slowdown", flags->slowdown,
                  "For experiments: compute this many times slower than the machine can")
      ->check(CLI::Range(1.0, thermocline::worker::kMaxSlowdown));
  app->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off")
      ->capture_default_str();
  app->add_option("--log-format", flags->log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app->add_flag("--mpi", flags->under_mpi)->group("");
  app->add_flag("--list-gpus", flags->lists_gpus)->group("");
  app->add_flag("--die-with-parent", flags->die_with_parent)->group("");
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
  WorkerFlags flags;
  CLI::App app("Joins a Thermocline cluster and holds one stage of its model.",
               "thermocline worker");
  AddFlags(&app, &flags);
  // Under mpirun every rank gets the service's flags; rank 0 checks those that are not ours.
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--mpi") app.allow_extras();
  }
  app.failure_message([](const CLI::App* self, const CLI::Error& error) {
    return self->get_name() + ": " + error.what() + "; see --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
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
