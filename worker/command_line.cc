#include "worker/command_line.h"

#include <CLI/CLI.hpp>
#include <string_view>

#include "model/neuron_rows_help.h"
#include "worker/graphs_flag.h"

namespace thermocline::worker {
namespace {

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
  app->add_option("--gpu-rows", flags->gpu_rows, model::kNeuronRowsHelp)->capture_default_str();
  app->add_option("--nccl", flags->nccl,
                  "How GPUs add the sums of one stage and pass activations to the next: auto (by "
                  "NCCL where it is installed, between stages where it is faster, too), always "
                  "(between stages also where it is not), or off (by way of the hosts)")
      ->capture_default_str();
  app->add_option("--cuda-graphs", flags->cuda_graphs, kCudaGraphsHelp)->capture_default_str();
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
      ->check(CLI::Range(1.0, kMaxSlowdown));
  app->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off")
      ->capture_default_str();
  app->add_option("--log-format", flags->log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app->add_flag("--mpi", flags->under_mpi)->group("");
  app->add_flag("--list-gpus", flags->lists_gpus)->group("");
  app->add_flag("--die-with-parent", flags->die_with_parent)->group("");
}

}  // namespace

std::optional<int> ParseWorkerCommandLine(int argc, char** argv, WorkerFlags* flags) {
  CLI::App app("Joins a Thermocline cluster and holds one stage of its model.",
               "thermocline worker");
  AddFlags(&app, flags);
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
  return std::nullopt;
}

}  // namespace thermocline::worker
