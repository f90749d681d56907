#include "placement/pool_alike.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace thermocline::placement {
namespace {

// Every figure, in an order that depends only on what was measured of which.
std::vector<Figure*> FiguresOf(WorkerProfile* worker) {
  std::vector<Figure*> figures = {&worker->read_bytes_per_s, &worker->gather_bytes_per_s,
                                  &worker->op_overhead_s};
  for (ReadRate& rate : worker->read_rates) figures.push_back(&rate.bytes_per_s);
  for (ComputeRate& rate : worker->compute_rates) figures.push_back(&rate.flops_per_s);
  for (WeightRate& rate : worker->weight_rates) figures.push_back(&rate.bytes_per_s);
  for (GpuInfo& gpu : worker->gpus) {
    figures.insert(figures.end(), {&gpu.read_bytes_per_s, &gpu.upload_bytes_per_s,
                                   &gpu.download_bytes_per_s, &gpu.launch_s});
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

void Pool(const std::vector<WorkerProfile*>& group) {
  std::vector<std::vector<Figure*>> figures;
  for (WorkerProfile* const worker : group) figures.push_back(FiguresOf(worker));
  for (size_t i = 0; i < figures.front().size(); ++i) {
    if (figures.front()[i]->origin != Origin::kMeasured) continue;
    double logs = 0;
    for (const auto& of_worker : figures) logs += std::log(of_worker[i]->value);
    const double mean = std::exp(logs / static_cast<double>(group.size()));
    for (const auto& of_worker : figures) of_worker[i]->value = mean;
  }
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
    if (others - left.begin() > 1) Pool({left.begin(), others});
    left.erase(left.begin(), others);
  }
}

}  // namespace thermocline::placement
