#include "placement/search_aims.h"

#include <algorithm>
#include <limits>

namespace thermocline::placement {
namespace {

int64_t DivideUp(int64_t n, int64_t by) { return (n + by - 1) / by; }

// The whole model on the worker that is fastest with it.
double AloneSeconds(const CostModel& costs, const PlannerInputs& inputs) {
  double least = std::numeric_limits<double>::infinity();
  for (const WorkerProfile& worker : inputs.cluster.workers) {
    double seconds = costs.EmbedSeconds(worker.id) + costs.HeadSeconds(worker.id);
    for (int l = 0; l < inputs.config.n_layer; ++l) seconds += costs.LayerSeconds(worker.id, l);
    least = std::min(least, seconds);
  }
  return least;
}

// A plan is worth a T(1) + (1 - a) n/M max(T(b) / n, busiest(b)) for n batches of b sequences; that
// T(1) is to T(b) as it is of a worker alone makes this a T and a busiest time of one size.
SearchAim AimOf(const Batching& batching, BatchCosts& costs, double alone_s) {
  if (batching.n_batches == 1) return {batching.n_sequences, 1};
  const double scale = alone_s / AloneSeconds(costs.Of(batching.n_sequences), costs.inputs());
  const double latency = costs.options().latency_weight * scale;
  const double busiest = (1 - costs.options().latency_weight) *
                         static_cast<double>(batching.n_batches) /
                         static_cast<double>(StreamsOf(costs.options()));
  return {batching.n_sequences, latency / (latency + busiest)};
}

}  // namespace

std::vector<Batching> BatchingsOf(int64_t n_streams, size_t n_workers) {
  // Two workers make a stage of kMaxMicroBatches at most, one a stage of one.
  const auto most = static_cast<int64_t>(n_workers / 2 * kMaxMicroBatches + n_workers % 2);
  std::vector<Batching> batchings;
  for (int64_t under_way = 1; under_way <= std::min(n_streams, most); ++under_way) {
    const int64_t n_sequences = DivideUp(n_streams, under_way);
    if (!batchings.empty() && batchings.back().n_sequences == n_sequences) continue;
    batchings.push_back({n_sequences, DivideUp(n_streams, n_sequences)});
  }
  return batchings;
}

std::vector<SearchAim> AimsOf(BatchCosts& costs) {
  const double weight = costs.options().latency_weight;
  const int64_t n_streams = StreamsOf(costs.options());
  if (weight >= 1 || n_streams == 1) return {{1, 1}};
  std::vector<SearchAim> aims;
  if (weight > 0) aims.push_back({1, 1});
  const double alone_s = AloneSeconds(costs.Of(1), costs.inputs());
  int64_t next = 1;  // batches that the next aim has at least
  for (const Batching& batching : BatchingsOf(n_streams, costs.inputs().cluster.workers.size())) {
    if (batching.n_batches < next) continue;
    aims.push_back(AimOf(batching, costs, alone_s));
    next = 2 * batching.n_batches;
  }
  return aims;
}

}  // namespace thermocline::placement
