#include "placement/profile.h"

#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "base/str.h"
#include "placement/card_way.h"

namespace thermocline::placement {
namespace {

constexpr std::array kOrigins = {Origin::kUnknown, Origin::kAssumed, Origin::kGiven,
                                 Origin::kMeasured};

constexpr std::array kGpuPaths = {
    GpuPath::kUnknown,    GpuPath::kSameBoard, GpuPath::kPcieSwitch, GpuPath::kPcieSwitches,
    GpuPath::kHostBridge, GpuPath::kNumaNode,  GpuPath::kSystem};

constexpr std::array kWeightUses = {WeightUse::kMatMul, WeightUse::kNeurons, WeightUse::kAxpyRows};

Status CheckRate(const Figure& figure, std::string_view what, const std::string& where) {
  if (!figure.known() || (std::isfinite(figure.value) && figure.value > 0)) return OkStatus();
  return InvalidArgument(Str(where, ": ", what, " is not above 0: ", figure.value));
}

Status CheckTime(const Figure& figure, std::string_view what, const std::string& where) {
  if (!figure.known() || (std::isfinite(figure.value) && figure.value >= 0)) return OkStatus();
  return InvalidArgument(Str(where, ": ", what, " is negative: ", figure.value));
}

// Of the card itself, without those of its peers.
void CopyFigures(const GpuInfo& from, GpuInfo* to) {
  to->read_bytes_per_s = from.read_bytes_per_s;
  to->upload_bytes_per_s = from.upload_bytes_per_s;
  to->download_bytes_per_s = from.download_bytes_per_s;
  to->copy_s = from.copy_s;
}

Status CheckPeers(const GpuInfo& gpu, int self, size_t n_gpus, const std::string& where) {
  std::set<int> peers;
  for (const GpuPeer& peer : gpu.peers) {
    if (peer.gpu < 0 || static_cast<size_t>(peer.gpu) >= n_gpus || peer.gpu == self) {
      return InvalidArgument(Str(where, ": there is no other GPU ", peer.gpu));
    }
    if (!peers.insert(peer.gpu).second) {
      return InvalidArgument(Str(where, ": peer ", peer.gpu, " stands twice"));
    }
    TC_RETURN_IF_ERROR(CheckTime(peer.latency_s, "latency", where));
    TC_RETURN_IF_ERROR(CheckRate(peer.bytes_per_s, "bytes_per_s", where));
  }
  return OkStatus();
}

Status CheckGpus(const WorkerProfile& worker) {
  if (worker.gpus.size() > kMaxGpus) {
    return InvalidArgument(Str("worker ", worker.id, ": too many GPUs:",
                               Kv("gpus", worker.gpus.size()), Kv("limit", kMaxGpus)));
  }
  if (worker.gpu < -1 || worker.gpu >= static_cast<int>(worker.gpus.size())) {
    return InvalidArgument(Str("worker ", worker.id, ": computes on a GPU that there is none of:",
                               Kv("gpu", worker.gpu), Kv("gpus", worker.gpus.size())));
  }
  for (size_t i = 0; i < worker.gpus.size(); ++i) {
    const GpuInfo& gpu = worker.gpus[i];
    const std::string where = Str("worker ", worker.id, ", GPU ", i);
    TC_RETURN_IF_ERROR(CheckRate(gpu.read_bytes_per_s, "read_bytes_per_s", where));
    TC_RETURN_IF_ERROR(CheckRate(gpu.upload_bytes_per_s, "upload_bytes_per_s", where));
    TC_RETURN_IF_ERROR(CheckRate(gpu.download_bytes_per_s, "download_bytes_per_s", where));
    TC_RETURN_IF_ERROR(CheckTime(gpu.copy_s, "copy time", where));
    TC_RETURN_IF_ERROR(CheckPeers(gpu, static_cast<int>(i), worker.gpus.size(), where));
  }
  return OkStatus();
}

Status CheckWorker(const WorkerProfile& worker) {
  const std::string where = Str("worker ", worker.id);
  TC_RETURN_IF_ERROR(CheckRate(worker.read_bytes_per_s, "read_bytes_per_s", where));
  TC_RETURN_IF_ERROR(CheckRate(worker.gather_bytes_per_s, "gather_bytes_per_s", where));
  TC_RETURN_IF_ERROR(CheckTime(worker.op_overhead_s, "op_overhead", where));
  for (const ReadRate& rate : worker.read_rates) {
    TC_RETURN_IF_ERROR(CheckRate(rate.bytes_per_s, "a rate of read_rates", where));
  }
  for (const ComputeRate& rate : worker.compute_rates) {
    TC_RETURN_IF_ERROR(CheckRate(rate.flops_per_s, "a rate of compute_rates", where));
  }
  for (const WeightRate& rate : worker.weight_rates) {
    TC_RETURN_IF_ERROR(CheckRate(rate.bytes_per_s, "a rate of weight_rates", where));
    if (rate.row_share > 0 && rate.row_share <= 1) continue;
    return InvalidArgument(
        Str(where, ": a share of weight_rates is not above 0 and up to 1: ", rate.row_share));
  }
  return CheckGpus(worker);
}

Status CheckLink(const ClusterProfile& cluster, const LinkProfile& link) {
  const std::string where = Str("link ", link.from, " -> ", link.to);
  for (const WorkerId end : {link.from, link.to}) {
    if (cluster.FindWorker(end) != nullptr) continue;
    return InvalidArgument(Str(where, ": there is no worker ", end));
  }
  if (link.from == link.to) return InvalidArgument(Str(where, ": leads to where it comes from"));
  TC_RETURN_IF_ERROR(CheckTime(link.latency_s, "latency", where));
  TC_RETURN_IF_ERROR(CheckTime(link.message_s, "message time", where));
  return CheckRate(link.bytes_per_s, "bytes_per_s", where);
}

}  // namespace

std::string_view OriginName(Origin origin) {
  switch (origin) {
    case Origin::kUnknown:
      return "unknown";
    case Origin::kAssumed:
      return "assumed";
    case Origin::kGiven:
      return "given";
    case Origin::kMeasured:
      return "measured";
  }
  return "?";
}

Result<Origin> ParseOrigin(std::string_view name) {
  for (const Origin origin : kOrigins) {
    if (name == OriginName(origin)) return origin;
  }
  return InvalidArgument(
      Str("origin is not unknown, assumed, given or measured: ", Printable(name)));
}

std::string_view WeightUseName(WeightUse use) {
  switch (use) {
    case WeightUse::kMatMul:
      return "matmul";
    case WeightUse::kNeurons:
      return "neurons";
    case WeightUse::kAxpyRows:
      return "axpy_rows";
  }
  return "?";
}

Result<WeightUse> ParseWeightUse(std::string_view name) {
  for (const WeightUse use : kWeightUses) {
    if (name == WeightUseName(use)) return use;
  }
  return InvalidArgument(Str("op is not matmul, neurons or axpy_rows: ", Printable(name)));
}

std::string_view GpuPathName(GpuPath path) {
  switch (path) {
    case GpuPath::kUnknown:
      return "unknown";
    case GpuPath::kSameBoard:
      return "same board";
    case GpuPath::kPcieSwitch:
      return "PCIe switch";
    case GpuPath::kPcieSwitches:
      return "PCIe switches";
    case GpuPath::kHostBridge:
      return "host bridge";
    case GpuPath::kNumaNode:
      return "NUMA node";
    case GpuPath::kSystem:
      return "across NUMA nodes";
  }
  return "?";
}

Result<GpuPath> ParseGpuPath(std::string_view name) {
  std::string names;
  for (const GpuPath path : kGpuPaths) {
    if (name == GpuPathName(path)) return path;
    names += Str(names.empty() ? "" : ", ", GpuPathName(path));
  }
  return InvalidArgument(Str("path is none of ", names, ": ", Printable(name)));
}

std::string_view LinkKindName(LinkKind kind) { return kind == LinkKind::kMpi ? "mpi" : "zmq"; }

Result<LinkKind> ParseLinkKind(std::string_view name) {
  for (const LinkKind kind : {LinkKind::kMpi, LinkKind::kZmq}) {
    if (name == LinkKindName(kind)) return kind;
  }
  return InvalidArgument(Str("link is not mpi or zmq: ", Printable(name)));
}

const WorkerProfile* ClusterProfile::FindWorker(WorkerId id) const {
  for (const WorkerProfile& worker : workers) {
    if (worker.id == id) return &worker;
  }
  return nullptr;
}

model::NeuronRows ClusterProfile::RowsOf(WorkerId id) const {
  const WorkerProfile* const worker = FindWorker(id);
  return worker == nullptr ? model::NeuronRows::kAsIs : worker->neuron_rows;
}

const LinkProfile* ClusterProfile::FindLink(WorkerId from, WorkerId to) const {
  for (const LinkProfile& link : links) {
    if (link.from == from && link.to == to) return &link;
  }
  return nullptr;
}

WorkerProfile WithoutNames(WorkerProfile worker) {
  worker.id = {};
  worker.host.clear();
  // What a worker has found of its own card is the worker's, wherever that card is in the list; of
  // the others' it has found nothing.
  const GpuInfo* const card = CardOf(worker);
  const GpuInfo own = card == nullptr ? GpuInfo() : *card;
  for (GpuInfo& gpu : worker.gpus) CopyFigures(GpuInfo(), &gpu);
  if (card != nullptr) CopyFigures(own, &worker.gpus.front());
  if (worker.gpu > 0) worker.gpu = 0;
  for (GpuInfo& gpu : worker.gpus) {
    gpu.pci_bus_id.clear();
    gpu.cpus.clear();
    gpu.numa_node = -1;
  }
  return worker;
}

Status ValidateCluster(const ClusterProfile& cluster) {
  std::set<WorkerId> ids;
  for (const WorkerProfile& worker : cluster.workers) {
    if (!ids.insert(worker.id).second) {
      return InvalidArgument(Str("worker ", worker.id, " stands twice"));
    }
    TC_RETURN_IF_ERROR(CheckWorker(worker));
  }
  std::set<std::pair<WorkerId, WorkerId>> ends;
  for (const LinkProfile& link : cluster.links) {
    TC_RETURN_IF_ERROR(CheckLink(cluster, link));
    if (ends.insert({link.from, link.to}).second) continue;
    return InvalidArgument(Str("link ", link.from, " -> ", link.to, " stands twice"));
  }
  return OkStatus();
}

}  // namespace thermocline::placement
