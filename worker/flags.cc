#include "worker/flags.h"

#include <algorithm>
#include <cstdlib>

#include "base/host_info.h"
#include "base/str.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

// More threads than any machine has cores is a typing error.
constexpr int kMaxThreads = 1024;

using comm::EnvironmentLookup;

int EnvironmentInt(const EnvironmentLookup& environment, const char* name, int fallback) {
  const auto text = environment(name);
  return text ? std::atoi(text->c_str()) : fallback;
}

// How many workers share this host, as Open MPI tells. Rank 0 is the coordinator, which computes
// nothing; it is on this host when ranks are counted alike here and in the job.
int WorkersOnThisHost(const EnvironmentLookup& environment) {
  const int local_size = EnvironmentInt(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", 1);
  const int rank = EnvironmentInt(environment, "OMPI_COMM_WORLD_RANK", 0);
  const int local_rank = EnvironmentInt(environment, "OMPI_COMM_WORLD_LOCAL_RANK", 0);
  const bool coordinator_here = rank == local_rank && local_size > 1;
  return std::max(1, local_size - (coordinator_here ? 1 : 0));
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
  const int n_sharing = WorkersOnThisHost(environment);
  options.n_threads =
      flags.n_threads > 0 ? flags.n_threads : std::max(1, AvailableCores() / n_sharing);
  options.memory_bytes = AvailableMemoryBytes() / static_cast<uint64_t>(n_sharing);
  if (!flags.memory.empty()) {
    auto memory = ParseBytes(flags.memory);
    if (!memory.ok()) return memory.status().WithContext("--memory");
    options.memory_bytes = *memory;
  }
  options.cache_dir = flags.cache_dir.empty() ? DefaultCacheDir(environment) : flags.cache_dir;
  return options;
}

}  // namespace thermocline::worker
