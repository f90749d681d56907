#include "placement/fit_cluster.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/str.h"
#include "placement/op_time.h"

namespace thermocline::placement {
namespace {

using Ids = std::map<WorkerId, WorkerId>;  // of the file, to those who joined

std::string NamesOf(const ClusterProfile& cluster) {
  std::string names;
  for (const WorkerProfile& worker : cluster.workers) {
    names += Str(names.empty() ? "" : ", ", worker.id,
                 worker.host.empty() ? "" : Str(" on ", Printable(worker.host)));
  }
  return names;
}

Status DoesNotFit(const ClusterProfile& given, const ClusterProfile& joined) {
  return InvalidArgument(Str("the cluster file is of other workers: it has ", NamesOf(given),
                             "; joined have ", NamesOf(joined)));
}

bool FitsById(const ClusterProfile& given, const ClusterProfile& joined) {
  return std::all_of(given.workers.begin(), given.workers.end(), [&](const WorkerProfile& worker) {
    const WorkerProfile* const other = joined.FindWorker(worker.id);
    return other != nullptr && (worker.host.empty() || worker.host == other->host);
  });
}

std::map<std::string, std::vector<WorkerId>> ByHost(const ClusterProfile& cluster) {
  std::map<std::string, std::vector<WorkerId>> hosts;
  for (const WorkerProfile& worker : cluster.workers) hosts[worker.host].push_back(worker.id);
  for (auto& [host, ids] : hosts) std::sort(ids.begin(), ids.end());
  return hosts;
}

Result<Ids> MatchWorkers(const ClusterProfile& given, const ClusterProfile& joined) {
  if (given.workers.size() != joined.workers.size()) return DoesNotFit(given, joined);
  Ids ids;
  if (FitsById(given, joined)) {
    for (const WorkerProfile& worker : given.workers) ids[worker.id] = worker.id;
    return ids;
  }
  const auto from = ByHost(given), to = ByHost(joined);
  for (const auto& [host, own] : from) {
    const auto found = to.find(host);
    if (found == to.end() || found->second.size() != own.size()) return DoesNotFit(given, joined);
    for (size_t i = 0; i < own.size(); ++i) ids[own[i]] = found->second[i];
  }
  return ids;
}

void Fill(const Figure& from, Figure* figure) {
  if (!figure->known()) *figure = from;
}

// Rates say the same thing in finer and coarser ways: those of two sources would contradict.
// What was assumed when a file was saved says nothing.
bool SaysRates(const WorkerProfile& worker) {
  const auto is_said = [](const Figure& figure) {
    return figure.known() && figure.origin != Origin::kAssumed;
  };
  return is_said(worker.read_bytes_per_s) || is_said(worker.gather_bytes_per_s) ||
         !worker.read_rates.empty() || !worker.compute_rates.empty() ||
         !worker.weight_rates.empty();
}

// What somebody wrote of a GPU, for the one that is there. Neither has more memory than it has.
GpuInfo FitGpu(const GpuInfo& given, const GpuInfo& real, size_t n_gpus) {
  GpuInfo gpu = real;
  if (given.memory_bytes > 0) gpu.memory_bytes = std::min(given.memory_bytes, real.memory_bytes);
  gpu.free_bytes = std::min(gpu.memory_bytes, real.free_bytes);
  if (given.free_bytes > 0) gpu.free_bytes = std::min(given.free_bytes, gpu.free_bytes);
  const auto prefer = [](const Figure& figure, Figure* to) {
    if (figure.known()) *to = figure;
  };
  prefer(given.read_bytes_per_s, &gpu.read_bytes_per_s);
  prefer(given.upload_bytes_per_s, &gpu.upload_bytes_per_s);
  prefer(given.download_bytes_per_s, &gpu.download_bytes_per_s);
  prefer(given.launch_s, &gpu.launch_s);
  if (!given.peers.empty()) gpu.peers = given.peers;
  std::erase_if(gpu.peers, [&](const GpuPeer& peer) { return size_t(peer.gpu) >= n_gpus; });
  return gpu;
}

// Matched in their order. Where nobody wrote any down, those that are there count.
Status FitGpus(const WorkerProfile& joined, WorkerProfile* worker) {
  if (worker->gpus.empty()) worker->gpus = joined.gpus;
  const size_t n_gpus = worker->gpus.size();
  if (n_gpus > joined.gpus.size()) {
    return InvalidArgument(Str("the cluster file has ", n_gpus, " GPUs for worker ", joined.id,
                               " on ", Printable(joined.host), ", which sees ",
                               joined.gpus.size()));
  }
  for (size_t i = 0; i < n_gpus; ++i) {
    worker->gpus[i] = FitGpu(worker->gpus[i], joined.gpus[i], n_gpus);
  }
  return OkStatus();
}

Result<WorkerProfile> FitWorker(WorkerProfile worker, const WorkerProfile& joined) {
  worker.id = joined.id;
  worker.host = joined.host;
  if (worker.n_cores == 0) worker.n_cores = joined.n_cores;
  if (worker.n_threads == 0) worker.n_threads = joined.n_threads;
  if (worker.n_numa_nodes == 0) worker.n_numa_nodes = joined.n_numa_nodes;
  if (worker.memory_bytes == 0) worker.memory_bytes = joined.memory_bytes;
  worker.memory_bytes = std::min(worker.memory_bytes, joined.memory_bytes);
  Fill(joined.op_overhead_s, &worker.op_overhead_s);
  TC_RETURN_IF_ERROR(FitGpus(joined, &worker));
  // What it really computes on, as far as the file has that GPU.
  worker.gpu = joined.gpu < static_cast<int>(worker.gpus.size()) ? joined.gpu : -1;
  worker.nccl_version = joined.nccl_version;
  if (SaysRates(worker)) return worker;
  worker.read_bytes_per_s = joined.read_bytes_per_s;
  worker.gather_bytes_per_s = joined.gather_bytes_per_s;
  worker.read_rates = joined.read_rates;
  worker.compute_rates = joined.compute_rates;
  worker.weight_rates = joined.weight_rates;
  return worker;
}

}  // namespace

Result<ClusterProfile> FitCluster(const ClusterProfile& given, const ClusterProfile& joined,
                                  const PairTransport& transport) {
  TC_ASSIGN_OR_RETURN(const Ids ids, MatchWorkers(given, joined));
  ClusterProfile cluster;
  for (const WorkerProfile& worker : given.workers) {
    TC_ASSIGN_OR_RETURN(WorkerProfile fitted,
                        FitWorker(worker, *joined.FindWorker(ids.at(worker.id))));
    cluster.workers.push_back(std::move(fitted));
  }
  std::sort(cluster.workers.begin(), cluster.workers.end(),
            [](const WorkerProfile& a, const WorkerProfile& b) { return a.id < b.id; });
  for (LinkProfile link : given.links) {
    const LinkKind will_be = transport(ids.at(link.from), ids.at(link.to));
    if (link.transport != will_be) {
      return InvalidArgument(Str(
          "the cluster file's link ", link.from, " -> ", link.to, " is for ",
          LinkKindName(link.transport), ", and links will be ", LinkKindName(will_be),
          ": measure again, or write transport: ", LinkKindName(will_be), " with numbers of that"));
    }
    link.from = ids.at(link.from);
    link.to = ids.at(link.to);
    cluster.links.push_back(std::move(link));
  }
  return cluster;
}

void AssumeRates(ClusterProfile* cluster) {
  for (WorkerProfile& worker : cluster->workers) {
    Fill(Figure::Assumed(WorkerSpeed::kAssumedReadBytesPerS), &worker.read_bytes_per_s);
  }
}

}  // namespace thermocline::placement
