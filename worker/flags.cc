#include "worker/flags.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "base/str.h"
#include "base/units.h"
#include "worker/graphs_flag.h"

namespace thermocline::worker {
namespace {

// More threads than any machine has cores is a typing error.
constexpr int kMaxThreads = 1024;
// Of what is available; the rest is for the system and for what grows beside the plan, such as
// queues and the page cache of the host's other files.
constexpr uint64_t kMemoryPercent = 90;

using comm::EnvironmentLookup;

int EnvironmentInt(const EnvironmentLookup& environment, const char* name, int fallback) {
  const auto text = environment(name);
  return text ? std::atoi(text->c_str()) : fallback;
}

// Names in the environment by which a launcher tells a process its place.
struct LauncherNames {
  const char* local_size;
  const char* rank;
  const char* local_rank;
};
// Open MPI; hydra (MPICH, Intel MPI); other launchers that speak PMI.
constexpr LauncherNames kLaunchers[] = {
    {"OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"MPI_LOCALNRANKS", "PMI_RANK", "MPI_LOCALRANKID"},
    {"PMI_LOCAL_SIZE", "PMI_RANK", "PMI_LOCAL_RANK"},
};

// A process's place in the job that a launcher started.
struct Place {
  int local_size = 1;  // processes of the job on this host
  int rank = 0;
  int local_rank = 0;
};

// The entry for `node` of Slurm's list of tasks per node: "2(x3),1" is 2, 2, 2, 1.
int SlurmTasksOfNode(std::string_view list, int node) {
  int tasks = 1;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string entry(list.substr(0, comma));
    tasks = std::atoi(entry.c_str());
    const size_t times = entry.find("(x");
    node -= times == std::string::npos ? 1 : std::atoi(entry.c_str() + times + 2);
    if (node < 0) return tasks;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return tasks;
}

// Of a task that srun started; the variables of a step come before those of its whole job.
Place PlaceInSlurm(const EnvironmentLookup& environment) {
  Place place;
  place.rank = EnvironmentInt(environment, "SLURM_PROCID", 0);
  place.local_rank = EnvironmentInt(environment, "SLURM_LOCALID", 0);
  place.local_size = EnvironmentInt(environment, "SLURM_NTASKS_PER_NODE", 1);
  const int node = EnvironmentInt(environment, "SLURM_NODEID", 0);
  for (const char* name : {"SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"}) {
    if (const auto list = environment(name)) place.local_size = SlurmTasksOfNode(*list, node);
  }
  return place;
}

Place PlaceOnHost(const EnvironmentLookup& environment) {
  for (const LauncherNames& names : kLaunchers) {
    const int local_size = EnvironmentInt(environment, names.local_size, 0);
    if (local_size < 1) continue;
    return {local_size, EnvironmentInt(environment, names.rank, 0),
            EnvironmentInt(environment, names.local_rank, 0)};
  }
  return environment("SLURM_PROCID") ? PlaceInSlurm(environment) : Place{};
}

// The workers that share this host, as far as a launcher tells.
struct HostShare {
  int n_workers = 1;
  int index = 0;  // of this one among them
};

// A worker that the coordinator started itself is no task of any launcher, though it inherits one's
// variables.
HostShare ShareOfHost(const WorkerFlags& flags, const EnvironmentLookup& environment) {
  if (flags.die_with_parent) return {};
  const Place place = PlaceOnHost(environment);
  // Under MPI rank 0 is the coordinator, which computes nothing; it is on this host when ranks are
  // counted alike here and in the job.
  const bool coordinator_here =
      flags.under_mpi && place.rank == place.local_rank && place.local_size > 1;
  const int n_others = coordinator_here ? 1 : 0;
  return {std::max(1, place.local_size - n_others), std::max(0, place.local_rank - n_others)};
}

// The part of the list that is this worker's: as many CPUs as its neighbours', in order of rank.
Result<std::vector<int>> CpusOf(const WorkerFlags& flags, const HostShare& share) {
  auto all = ParseCpuList(flags.cpus);
  if (!all.ok()) return all.status().WithContext("--cpus");
  const auto n_workers = static_cast<size_t>(share.n_workers);
  if (!all->empty() && all->size() < n_workers) {
    return InvalidArgument(Str("--cpus has fewer CPUs than this host has workers:",
                               Kv("cpus", CpuListText(*all)), Kv("workers", n_workers)));
  }
  const size_t n_each = all->size() / n_workers;
  const size_t first = n_each * (static_cast<size_t>(share.index) % n_workers);
  return std::vector<int>(all->begin() + static_cast<std::ptrdiff_t>(first),
                          all->begin() + static_cast<std::ptrdiff_t>(first + n_each));
}

// A start of a cluster waits for so many turns at most.
constexpr int kMaxMeasuringTurns = 8;

// Only ranks of one job start at the same time.
int MeasuringTurn(const WorkerFlags& flags, const HostShare& share, int n_threads) {
  if (!flags.under_mpi) return 0;
  const int n_at_once = std::max(1, AvailableCores() / n_threads);
  return share.index / n_at_once % kMaxMeasuringTurns;
}

std::string DefaultCacheDir(const EnvironmentLookup& environment) {
  if (const auto cache = environment("XDG_CACHE_HOME"); cache && !cache->empty()) {
    return *cache + "/thermocline";
  }
  return environment("HOME").value_or("/tmp") + "/.cache/thermocline";
}

Result<comm::JoinTicket> ResolveTicket(const WorkerFlags& flags,
                                       const EnvironmentLookup& environment) {
  comm::JoinTicket ticket;
  if (flags.join.empty()) {
    return InvalidArgument(
        "--join is missing: the coordinator prints it, e.g. --join tcp://head:40123");
  }
  TC_ASSIGN_OR_RETURN(ticket.endpoints, comm::ParseEndpoints(flags.join));
  const std::string key =
      flags.key.empty() ? environment("THERMOCLINE_CLUSTER_KEY").value_or("") : flags.key;
  if (key.empty()) {
    return InvalidArgument("--key is missing (or the variable THERMOCLINE_CLUSTER_KEY)");
  }
  TC_ASSIGN_OR_RETURN(ticket.key, comm::ClusterKey::Parse(key));
  return ticket;
}

}  // namespace

Result<WorkerOptions> ResolveWorkerFlags(const WorkerFlags& flags,
                                         const EnvironmentLookup& environment) {
  WorkerOptions options;
  if (!flags.under_mpi) {
    TC_ASSIGN_OR_RETURN(options.ticket, ResolveTicket(flags, environment));
  }
  if (flags.n_threads < 0 || flags.n_threads > kMaxThreads) {
    return InvalidArgument(
        Str("--threads out of range:", Kv("threads", flags.n_threads), Kv("max", kMaxThreads)));
  }
  const HostShare share = ShareOfHost(flags, environment);
  TC_ASSIGN_OR_RETURN(options.cpus, CpusOf(flags, share));
  const bool chosen = flags.n_threads > 0 || !options.cpus.empty();
  const int n_threads = chosen ? flags.n_threads : std::max(1, AvailableCores() / share.n_workers);
  TC_ASSIGN_OR_RETURN(options.n_threads, ThreadsOn(options.cpus, n_threads));
  options.measuring_turn = MeasuringTurn(flags, share, options.n_threads);
  auto device = kernels::ParseDeviceChoice(flags.device);
  if (!device.ok()) return device.status().WithContext("--device");
  options.device = *device;
  // One GPU for each worker of a launcher's, in order of rank.
  if (!options.device.has_ordinal) options.device.ordinal = share.index;
  options.claims_device = !options.device.has_ordinal && share.n_workers > 1;
  options.isa = flags.isa;
  options.slowdown = flags.slowdown;
  options.memory_bytes =
      AvailableMemoryBytes() / 100 * kMemoryPercent / static_cast<uint64_t>(share.n_workers);
  options.offers_host = flags.memory.empty() && share.n_workers == 1;
  if (!flags.memory.empty()) {
    auto memory = ParseBytes(flags.memory);
    if (!memory.ok()) return memory.status().WithContext("--memory");
    options.memory_bytes = *memory;
  }
  if (!flags.gpu_memory.empty()) {
    auto memory = ParseBytes(flags.gpu_memory);
    if (!memory.ok()) return memory.status().WithContext("--gpu-memory");
    options.gpu_memory_bytes = *memory;
  }
  const auto rows = model::ParseNeuronRows(flags.gpu_rows);
  if (!rows.ok()) return rows.status().WithContext("--gpu-rows");
  options.neuron_rows = *rows;
  if (flags.nccl != "auto" && flags.nccl != "always" && flags.nccl != "off") {
    return InvalidArgument(Str("--nccl: ", flags.nccl, " is none of auto, always and off"));
  }
  options.uses_nccl = flags.nccl != "off";
  options.always_nccl = flags.nccl == "always";
  TC_ASSIGN_OR_RETURN(options.uses_graphs, ParseCudaGraphs(flags.cuda_graphs));
  if (!flags.shape.empty()) {
    const auto shape = comm::ParseShaping(flags.shape);
    if (!shape.ok()) return shape.status().WithContext("--shape");
    options.shape = *shape;
  }
  options.cache_dir = flags.cache_dir.empty() ? DefaultCacheDir(environment) : flags.cache_dir;
  return options;
}

}  // namespace thermocline::worker
