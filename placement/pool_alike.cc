#include "placement/pool_alike.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "placement/card_way.h"

namespace thermocline::placement {
namespace {

// Every figure, in an order that depends only on what was measured of which.
std::vector<Figure*> FiguresOf(WorkerProfile* worker) {
  std::vector<Figure*> figures = {&worker->read_bytes_per_s, &worker->gather_bytes_per_s,
                                  &worker->op_overhead_s};
  for (ReadRate& rate : worker->read_rates) figures.push_back(&rate.bytes_per_s);
  for (ComputeRate& rate : worker->compute_rates) figures.push_back(&rate.flops_per_s);
  for (WeightRate& rate : worker->weight_rates) figures.push_back(&rate.bytes_per_s);
  if (CardOf(*worker) != nullptr) {  // of other cards it has measured nothing
    GpuInfo& gpu = worker->gpus[static_cast<size_t>(worker->gpu)];
    figures.insert(figures.end(), {&gpu.read_bytes_per_s, &gpu.upload_bytes_per_s,
                                   &gpu.download_bytes_per_s, &gpu.copy_s});
  }
  for (GpuInfo& gpu : worker->gpus) {
    for (GpuPeer& peer : gpu.peers) {
      figures.insert(figures.end(), {&peer.latency_s, &peer.bytes_per_s});
    }
  }
  return figures;
}

// The worker without what tells one from its equals: name, values of measured figures, and a few
// bytes of memory, of which the system never has quite the same left.
WorkerProfile KindOf(WorkerProfile worker) {
  worker = WithoutNames(std::move(worker));
  worker.memory_bytes = 0;
  for (GpuInfo& gpu : worker.gpus) gpu.free_bytes = 0;
  for (Figure* const figure : FiguresOf(&worker)) {
    if (figure->origin == Origin::kMeasured) figure->value = 0;
  }
  return worker;
}

bool IsFaster(const WorkerProfile* a, const WorkerProfile* b) {
  return a->read_bytes_per_s.value > b->read_bytes_per_s.value;
}

std::vector<Figure*> FiguresOf(LinkProfile* link) {
  return {&link->latency_s, &link->bytes_per_s, &link->message_s};
}

// Each measured figure becomes its geometric mean over the group.
template <typename Profile>
void Pool(const std::vector<Profile*>& group) {
  std::vector<std::vector<Figure*>> figures;
  for (Profile* const member : group) figures.push_back(FiguresOf(member));
  for (size_t i = 0; i < figures.front().size(); ++i) {
    if (figures.front()[i]->origin != Origin::kMeasured) continue;
    double logs = 0;
    for (const auto& of_member : figures) logs += std::log(of_member[i]->value);
    const double mean = std::exp(logs / static_cast<double>(group.size()));
    for (const auto& of_member : figures) of_member[i]->value = mean;
  }
}

bool IsMeasured(LinkProfile* link) {
  const auto figures = FiguresOf(link);
  // A latency of 0 is what is left of a trip that its messages fill; it has no geometric mean.
  return std::all_of(figures.begin(), figures.end(), [](const Figure* figure) {
    return figure->origin == Origin::kMeasured && figure->value > 0;
  });
}

// What two links must have in common to be taken for one.
bool AreOfAKind(const ClusterProfile& cluster, const LinkProfile& a, const LinkProfile& b) {
  const auto worker = [&](WorkerId id) -> const WorkerProfile& { return *cluster.FindWorker(id); };
  const auto kind = [&](WorkerId id) {
    WorkerProfile plain = WithoutNames(worker(id));
    plain.memory_bytes = 0;
    return plain;
  };
  const auto is_local = [&](const LinkProfile& link) {
    return worker(link.from).host == worker(link.to).host;
  };
  return a.transport == b.transport && is_local(a) == is_local(b) && kind(a.from) == kind(b.from) &&
         kind(a.to) == kind(b.to);
}

bool AreWithinAlikeRatio(const LinkProfile& quickest, const LinkProfile& other) {
  const double rate = quickest.bytes_per_s.value / other.bytes_per_s.value;
  return other.latency_s.value <= kAlikeRatio * quickest.latency_s.value && rate <= kAlikeRatio &&
         rate * kAlikeRatio >= 1;
}

}  // namespace

void PoolAlikeWorkers(ClusterProfile* cluster) {
  std::vector<WorkerProfile*> left;
  for (WorkerProfile& worker : cluster->workers) {
    if (worker.read_bytes_per_s.origin == Origin::kMeasured) left.push_back(&worker);
  }
  std::stable_sort(left.begin(), left.end(), IsFaster);
  while (!left.empty()) {
    const double fastest = left.front()->read_bytes_per_s.value;
    const WorkerProfile kind = KindOf(*left.front());
    const auto others = std::stable_partition(left.begin(), left.end(), [&](WorkerProfile* other) {
      return other->read_bytes_per_s.value * kAlikeRatio >= fastest && KindOf(*other) == kind;
    });
    if (others - left.begin() > 1) Pool(std::vector<WorkerProfile*>(left.begin(), others));
    left.erase(left.begin(), others);
  }
}

void PoolAlikeLinks(ClusterProfile* cluster) {
  std::vector<LinkProfile*> left;
  for (LinkProfile& link : cluster->links) {
    if (IsMeasured(&link)) left.push_back(&link);
  }
  std::stable_sort(left.begin(), left.end(), [](const LinkProfile* a, const LinkProfile* b) {
    return a->latency_s.value < b->latency_s.value;
  });
  while (!left.empty()) {
    const LinkProfile& quickest = *left.front();
    const std::string& host = cluster->FindWorker(quickest.from)->host;
    const bool is_local = cluster->FindWorker(quickest.to)->host == host;
    const auto others = std::stable_partition(left.begin(), left.end(), [&](LinkProfile* other) {
      if (!AreOfAKind(*cluster, quickest, *other)) return false;
      if (is_local && cluster->FindWorker(other->from)->host == host) return true;
      return AreWithinAlikeRatio(quickest, *other);
    });
    if (others - left.begin() > 1) Pool(std::vector<LinkProfile*>(left.begin(), others));
    left.erase(left.begin(), others);
  }
}

}  // namespace thermocline::placement
