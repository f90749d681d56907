#include "placement/fit_cluster.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/str.h"
#include "placement/op_time.h"

namespace thermocline::placement {
namespace {

using Ids = std::map<WorkerId, WorkerId>;  // of the file, to those who joined

std::string NamesOf(const std::vector<const WorkerProfile*>& workers) {
  std::string names;
  for (const WorkerProfile* worker : workers) {
    names += Str(names.empty() ? "" : ", ", worker->id,
                 worker->host.empty() ? "" : Str(" on ", Printable(worker->host)));
  }
  return names;
}

// Those of `cluster` that are not in `ids`.
template <typename Contains>
std::vector<const WorkerProfile*> LeftOver(const ClusterProfile& cluster, Contains contains) {
  std::vector<const WorkerProfile*> left;
  for (const WorkerProfile& worker : cluster.workers) {
    if (!contains(worker.id)) left.push_back(&worker);
  }
  return left;
}

// Who is who, and who is left over in the file and among those who joined, by id.
struct Match {
  Ids ids;
  std::vector<const WorkerProfile*> given, joined;
};

void FindLeftOver(const ClusterProfile& given, const ClusterProfile& joined, Match* match) {
  std::set<WorkerId> found;
  for (const auto& [from, to] : match->ids) found.insert(to);
  match->given = LeftOver(given, [&](WorkerId id) { return match->ids.contains(id); });
  match->joined = LeftOver(joined, [&](WorkerId id) { return found.contains(id); });
  const auto by_id = [](const WorkerProfile* a, const WorkerProfile* b) { return a->id < b->id; };
  std::sort(match->given.begin(), match->given.end(), by_id);
  std::sort(match->joined.begin(), match->joined.end(), by_id);
}

Match MatchWorkers(const ClusterProfile& given, const ClusterProfile& joined) {
  Match match;
  for (const WorkerProfile& worker : given.workers) {
    const WorkerProfile* const other = joined.FindWorker(worker.id);
    const bool fits = other != nullptr && (worker.host.empty() || worker.host == other->host);
    if (fits) match.ids[worker.id] = worker.id;
  }
  FindLeftOver(given, joined, &match);
  for (const WorkerProfile* const worker : match.given) {
    const auto other = std::find_if(match.joined.begin(), match.joined.end(), [&](const auto* one) {
      return one != nullptr && one->host == worker->host;
    });
    if (other == match.joined.end()) continue;
    match.ids[worker->id] = (*other)->id;
    *other = nullptr;
  }
  FindLeftOver(given, joined, &match);
  return match;
}

std::string NoteOf(const Match& match) {
  std::string note;
  if (!match.given.empty()) {
    note = Str("what it says of workers that are not here is ignored: ", NamesOf(match.given));
  }
  if (!match.joined.empty()) {
    note += Str(note.empty() ? "" : "; ",
                "workers that it does not know are measured: ", NamesOf(match.joined));
  }
  return note;
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
    const bool says_nothing = !figure.known() || figure.origin == Origin::kAssumed;
    if (!says_nothing || !to->known()) *to = figure;
  };
  prefer(given.read_bytes_per_s, &gpu.read_bytes_per_s);
  prefer(given.upload_bytes_per_s, &gpu.upload_bytes_per_s);
  prefer(given.download_bytes_per_s, &gpu.download_bytes_per_s);
  prefer(given.copy_s, &gpu.copy_s);
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

// A file that was measured with rows as they are has no rates of rows in 8 bits, and those of
// another type do not say them.
template <typename Rate>
void AddRatesOf(DType dtype, const std::vector<Rate>& joined, std::vector<Rate>* rates) {
  const auto is_of = [&](const Rate& rate) { return rate.dtype == dtype; };
  if (rates->empty() || std::any_of(rates->begin(), rates->end(), is_of)) return;
  std::copy_if(joined.begin(), joined.end(), std::back_inserter(*rates), is_of);
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
  worker.neuron_rows = joined.neuron_rows;  // what it was started with
  if (SaysRates(worker)) {
    const auto fp8 = model::Fp8TypeOf(worker.neuron_rows);
    if (!fp8) return worker;
    AddRatesOf(*fp8, joined.compute_rates, &worker.compute_rates);
    AddRatesOf(*fp8, joined.weight_rates, &worker.weight_rates);
    return worker;
  }
  worker.read_bytes_per_s = joined.read_bytes_per_s;
  worker.gather_bytes_per_s = joined.gather_bytes_per_s;
  worker.read_rates = joined.read_rates;
  worker.compute_rates = joined.compute_rates;
  worker.weight_rates = joined.weight_rates;
  return worker;
}

}  // namespace

Result<FittedCluster> FitCluster(const ClusterProfile& given, const ClusterProfile& joined,
                                 const PairTransport& transport) {
  const Match match = MatchWorkers(given, joined);
  const Ids& ids = match.ids;
  if (ids.empty()) {
    return InvalidArgument(Str("the cluster file is of other workers: it has ",
                               NamesOf(match.given), "; joined have ", NamesOf(match.joined),
                               ": without --cluster they are measured"));
  }
  FittedCluster fitted{.note = NoteOf(match)};
  std::vector<WorkerProfile>& workers = fitted.cluster.workers;
  for (const WorkerProfile& worker : given.workers) {
    if (!ids.contains(worker.id)) continue;
    TC_ASSIGN_OR_RETURN(WorkerProfile known,
                        FitWorker(worker, *joined.FindWorker(ids.at(worker.id))));
    workers.push_back(std::move(known));
  }
  for (const WorkerProfile* const worker : match.joined) {
    workers.push_back(*worker);
    fitted.unknown.insert(worker->id);
  }
  std::sort(workers.begin(), workers.end(),
            [](const WorkerProfile& a, const WorkerProfile& b) { return a.id < b.id; });
  for (LinkProfile link : given.links) {
    if (!ids.contains(link.from) || !ids.contains(link.to)) continue;
    const LinkKind will_be = transport(ids.at(link.from), ids.at(link.to));
    if (link.transport != will_be) {
      return InvalidArgument(Str(
          "the cluster file's link ", link.from, " -> ", link.to, " is for ",
          LinkKindName(link.transport), ", and links will be ", LinkKindName(will_be),
          ": measure again, or write transport: ", LinkKindName(will_be), " with numbers of that"));
    }
    link.from = ids.at(link.from);
    link.to = ids.at(link.to);
    fitted.cluster.links.push_back(std::move(link));
  }
  return fitted;
}

void AssumeRates(ClusterProfile* cluster) {
  for (WorkerProfile& worker : cluster->workers) {
    Fill(Figure::Assumed(WorkerSpeed::kAssumedReadBytesPerS), &worker.read_bytes_per_s);
  }
}

}  // namespace thermocline::placement
